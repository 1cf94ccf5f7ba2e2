"""Multiply runs of rows by rows of scales, with gradients for both, in as few passes over memory as that takes."""

from __future__ import annotations

from typing import Any

import torch

# Elements of a tensor that stay in a core's cache along with two others.
CACHED = 1 << 18


class Memory:
    """A tensor that is used again for the same product of each step.

    Fresh memory has to be mapped page by page, which takes longer than the product.  A product that a
    gradient still needs is left alone; what overwrites one by a way that cannot be seen here, such as a
    second backward pass through the same graph, is found by autograd, which counts versions.
    """

    def __init__(self) -> None:
        """Hold nothing yet."""
        self.tensor: torch.Tensor | None = None
        self.needed = False

    def __deepcopy__(self, memo: Any) -> Memory:
        """Return one of its own."""
        return Memory()

    def take(self, like: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the same kind that nothing needs any more."""
        if self.needed:
            return torch.empty_like(like)
        kept = self.tensor
        if kept is None or kept.shape != like.shape or kept.dtype != like.dtype or kept.device != like.device:
            self.tensor = kept = torch.empty_like(like)
        self.needed = True
        return kept.detach()


def scaled_rows(matrix: torch.Tensor, scale: torch.Tensor, rows: int, memory: Memory | None) -> torch.Tensor:
    """Return a matrix with each run of rows times its row of scales; see ``_ScaledRows``."""
    learns = torch.is_grad_enabled() and (matrix.requires_grad or scale.requires_grad)
    usable = memory if learns and not torch.compiler.is_compiling() else None
    scaled: torch.Tensor = _ScaledRows.apply(matrix, scale, rows, usable)
    return scaled


class _ScaledRows(torch.autograd.Function):
    """Multiply each run of rows of a matrix by one row of scales, in as few passes over memory as that takes.

    Shapes: matrix (groups, out, length), scale (groups, ceil(out / rows), length).
    """

    @staticmethod
    def forward(ctx: Any, matrix: torch.Tensor, scale: torch.Tensor, rows: int, memory: Memory | None) -> torch.Tensor:
        """Return the scaled matrix."""
        ctx.save_for_backward(matrix, scale)
        ctx.rows, ctx.memory = rows, memory
        if memory is None or matrix.shape[1] % rows or not matrix.is_contiguous():
            ctx.memory = None
            return _scaled(matrix, scale, rows)
        product = memory.take(matrix)
        runs = scale.shape[:2]
        torch.mul(matrix.reshape(*runs, rows, -1), scale[:, :, None], out=product.view(*runs, rows, -1))
        return product

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None]:
        """Return the gradients of the matrix and of the scales."""
        if ctx.memory is not None:
            ctx.memory.needed = False  # what read the product has its gradients
        matrix, scale = ctx.saved_tensors
        gradient, rows = gradients[0].contiguous(), ctx.rows
        whole = matrix.shape[1] % rows == 0 and all(ctx.needs_input_grad[:2])
        if whole and not torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return (*_both_gradients(gradient, matrix.contiguous(), scale), None, None)
        by_matrix = _scaled(gradient, scale, rows) if ctx.needs_input_grad[0] else None
        by_scale = row_sums(gradient * matrix, rows) if ctx.needs_input_grad[1] else None
        return by_matrix, by_scale, None, None


def _both_gradients(
    gradient: torch.Tensor, matrix: torch.Tensor, scale: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gradients of matrix and scales, a few rows at a time so that they stay in the cache."""
    length = matrix.shape[-1]
    runs = scale.reshape(-1, 1, length)
    incoming, weights = (tensor.reshape(len(runs), -1, length) for tensor in (gradient, matrix))
    by_matrix, by_scale = torch.empty_like(incoming), torch.empty_like(runs)
    step = max(CACHED // max(incoming[0].numel(), 1), 1)
    products = torch.empty_like(incoming[:step])
    blocks = (tensor.split(step) for tensor in (incoming, weights, runs, by_scale, by_matrix))
    for part, weight, factors, sums, scaled in zip(*blocks, strict=True):
        torch.sum(torch.mul(part, weight, out=products[: len(part)]), dim=1, keepdim=True, out=sums)
        torch.mul(part, factors, out=scaled)
    return by_matrix.reshape(matrix.shape), by_scale.reshape(scale.shape)


def _scaled(matrix: torch.Tensor, scale: torch.Tensor, rows: int) -> torch.Tensor:
    """Return a matrix with each run of rows times its row of scales."""
    groups, out, length = matrix.shape
    if out % rows == 0:
        return (matrix.reshape(groups, -1, rows, length) * scale[:, :, None]).reshape(matrix.shape)
    return matrix * scale.repeat_interleave(rows, dim=1)[:, :out]


def row_sums(matrix: torch.Tensor, rows: int) -> torch.Tensor:
    """Return the sums of each run of rows, the last one shorter if need be."""
    groups, out, length = matrix.shape
    missing = -out % rows
    if missing:
        matrix = torch.nn.functional.pad(matrix, (0, 0, 0, missing))
    return matrix.reshape(groups, -1, rows, length).sum(2)
