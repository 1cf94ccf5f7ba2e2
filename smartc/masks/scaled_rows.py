"""Multiply the tiles of a weight by a mask, with gradients for both, in as few passes over memory as that takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from smartc.kernels.tensor_pool import TensorPool
from smartc.kernels.training.compiled import serves
from smartc.kernels.training.tiles import tile_gradients

# A product, the mask in its shape, and the product of a step whose gradients are still to come.
MOST_BUFFERS = 3
# Elements of a tensor that stay in a core's cache along with two others.
CACHED = 1 << 17


class Memory:
    """Where the products of a weight and its masks lie, and the last mask in the weight's shape."""

    def __init__(self, fresh_gradient: bool = False) -> None:
        """Hold nothing yet.

        Args:
            fresh_gradient: Whether what reads the product makes a gradient for it that nothing else reads, as a
                convolution does; then the gradient of what was multiplied is put in its place.
        """
        self.pool = TensorPool(MOST_BUFFERS)
        self.fresh_gradient = fresh_gradient
        self._spread: tuple[tuple[int, int, torch.dtype], torch.Tensor, torch.Tensor] | None = None

    def __deepcopy__(self, memo: Any) -> Memory:
        """Return one of its own."""
        return Memory(self.fresh_gradient)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as nothing held."""
        return Memory, (self.fresh_gradient,)

    def spread(
        self, mask: torch.Tensor, spread: Callable[[torch.Tensor], torch.Tensor], dtype: torch.dtype
    ) -> torch.Tensor:
        """Return a mask in the shape of its weight, spread anew only where it is another one or has changed."""
        known, now = self._spread, (mask.data_ptr(), mask._version, dtype)
        if known is None or known[0] != now:
            # The one before makes room for the new one.  The mask is held as well: no other may take its place.
            self._spread = None
            self._spread = known = now, mask, self.pool.copy(spread(mask).to(dtype))
        return known[2]


@dataclass(frozen=True)
class Grid:
    """Tiles of output x input channels, row by row, edge tiles smaller.

    Attributes:
        groups: Groups of a convolution; no tile lies in two of them.
        out: Output channels of a group.
        into: Input channels of a group.
        taps: Kernel positions.
        rows: Output channels of a tile.
        columns: Input channels of a tile.
        per_tap: Whether each kernel position has tiles of its own.
    """

    groups: int
    out: int
    into: int
    taps: int
    rows: int
    columns: int
    per_tap: bool

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Return the numbers of groups, tile rows in each, tile columns, and tiles of a pair over the kernel."""
        down, across = -(-self.out // self.rows), -(-self.into // self.columns)
        return self.groups, down, across, self.taps if self.per_tap else 1

    @property
    def even(self) -> bool:
        """Return whether all tiles are of one size."""
        return self.out % self.rows == 0 and self.into % self.columns == 0

    def spread(self, mask: torch.Tensor) -> torch.Tensor:
        """Return the mask of each row of tiles, element by element: shape (groups, rows of tiles, into x taps)."""
        groups, down, _, own = self.shape
        tiles = mask.reshape(-1, own) if own == self.taps else mask.reshape(-1, 1).expand(-1, self.taps)
        wide = torch.cat([tiles] * self.columns, 1) if self.columns > 1 else tiles
        return wide.reshape(groups, down, -1)[..., : self.into * self.taps]

    def scaled(self, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """Return a weight times a spread mask."""
        if self.out % self.rows == 0:
            return (weight.reshape(self.groups, -1, self.rows, scale.shape[-1]) * scale[:, :, None]).view(weight.shape)
        each = scale.repeat_interleave(self.rows, dim=1)[:, : self.out]
        return (weight.reshape(self.groups, self.out, -1) * each).view(weight.shape)

    def sums(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over each tile of what a tensor holds there, flat."""
        groups, down, across, _ = self.shape
        matrix = values.reshape(groups, self.out, -1)
        if not self.even:
            padding = (0, (across * self.columns - self.into) * self.taps, 0, down * self.rows - self.out)
            matrix = functional.pad(matrix, padding)
        return self.column_sums(matrix.reshape(groups * down, self.rows, -1).sum(1))

    def column_sums(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the sums of tiles, flat, given those of their columns: shape (rows of tiles, padded into x taps)."""
        tall = rows.reshape(len(rows), -1, self.columns, self.taps)
        return (tall.sum(2) if self.per_tap or self.taps == 1 else tall.sum((2, 3))).reshape(-1)


def scaled_tiles(weight: torch.Tensor, mask: torch.Tensor, grid: Grid, memory: Memory | None) -> torch.Tensor:
    """Return a weight times the mask of its tiles; differentiable by both.

    Args:
        weight: Its elements are in the order (groups, out, into, taps).
        mask: An entry per tile.
        grid: How the tiles lie.
        memory: Where the product may be put, if it is made again and again.
    """
    learns = torch.is_grad_enabled() and (weight.requires_grad or mask.requires_grad)
    usable = memory if learns and not torch.compiler.is_compiling() else None
    scaled: torch.Tensor = _ScaledTiles.apply(weight, mask, grid, usable)
    return scaled


class _ScaledTiles(torch.autograd.Function):
    """Multiply a weight by the mask of its tiles; each call of an operator counts where weights are small."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, mask: torch.Tensor, grid: Grid, memory: Memory | None) -> torch.Tensor:
        """Return the product."""
        scale = grid.spread(mask).to(weight.dtype)
        ctx.save_for_backward(weight, mask, scale)
        ctx.grid, ctx.memory = grid, None
        if memory is None or grid.out % grid.rows or not weight.is_contiguous():
            return grid.scaled(weight, scale)
        ctx.memory, product = memory, memory.pool.empty_like(weight)
        runs = scale.view(-1, 1, scale.shape[-1])
        shape = len(runs), grid.rows, scale.shape[-1]
        torch.mul(weight.view(shape), runs, out=product.view(shape))
        return product

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None]:
        """Return the gradients of the weight and of the mask."""
        weight, mask, scale = ctx.saved_tensors
        gradient, grid = gradients[0].contiguous(), ctx.grid
        by_weight, by_mask = ctx.needs_input_grad[:2]
        plain = not torch.is_grad_enabled() and not torch.compiler.is_compiling()
        if plain and by_weight and by_mask and grid.even and weight.is_contiguous():
            fresh = ctx.memory is not None and ctx.memory.fresh_gradient
            product = gradient if fresh else torch.empty_like(gradient)
            sums = _tile_sums_and_product(gradient, weight, scale, grid, product)
            return product, sums.view(mask.shape).to(mask.dtype), None, None
        if plain and by_weight and not by_mask and ctx.memory is not None and ctx.memory.fresh_gradient:
            runs = scale.view(-1, 1, scale.shape[-1])
            gradient.view(len(runs), grid.rows, -1).mul_(runs)
            return gradient, None, None, None
        scale = grid.spread(mask).to(weight.dtype) if torch.is_grad_enabled() else scale
        return (
            grid.scaled(gradient, scale) if by_weight else None,
            grid.sums(gradient * weight).view(mask.shape).to(mask.dtype) if by_mask else None,
            None,
            None,
        )


def _tile_sums_and_product(
    gradient: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, grid: Grid, product: torch.Tensor
) -> torch.Tensor:
    """Return the sums over tiles of gradient x weight, flat, and write gradient x scale, perhaps in its place.

    Without a kernel for it, it goes a few rows of tiles at a time, so that they stay in the cache.
    """
    groups, down, across, own = grid.shape
    runs = scale.view(groups * down, 1, -1)
    incoming, its_weight, outgoing = (t.detach().view(len(runs), grid.rows, -1) for t in (gradient, weight, product))
    if serves(incoming, its_weight, outgoing, scale):
        # One mask for all kernel positions is that of as many times the columns.
        return tile_gradients(incoming, its_weight, scale.view(len(runs), across, -1, own), outgoing).view(-1)
    sums = torch.empty_like(runs)
    tables = [runs, sums, incoming, its_weight, outgoing]
    step = max(CACHED // max(grid.rows * runs.shape[2], 1), 1)
    blocks = [tables] if step >= len(runs) else list(zip(*(table.split(step) for table in tables), strict=True))
    scratch = torch.empty_like(blocks[0][2]) if blocks else sums
    for factor, total, part, weights, scaled in blocks:
        both = torch.mul(part, weights, out=scratch[: len(weights)])
        torch.mul(part, factor, out=scaled)
        torch.sum(both, 1, keepdim=True, out=total)
    return grid.column_sums(sums.view(len(runs), -1))
