"""Multiply a weight by the mask of its single elements, with gradients for both, in kernels of our own."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch

from smartc.kernels.training.compiled import serves
from smartc.kernels.training.patterns import pattern_gradients, pattern_product
from smartc.masks.scaled_rows import Memory


class Spread(Protocol):
    """How a flat mask lies in a weight."""

    def spread(self, mask: torch.Tensor) -> torch.Tensor:
        """Return the mask of each element, in the shape of the weight."""
        ...

    def sums(self, values: torch.Tensor) -> torch.Tensor:
        """Return the elements of a tensor of the weight's shape, an entry per unit, flat."""
        ...


def scaled_pattern(weight: torch.Tensor, mask: torch.Tensor, pattern: Spread, memory: Memory | None) -> torch.Tensor:
    """Return a weight times the mask of its elements; differentiable by both.

    Args:
        weight: Shape (out, in, *kernel).
        mask: Flat, in the order (out, taps, input channels); what is beyond the last of these stays.
        pattern: How the mask lies.
        memory: Where the product may be put, if it is made again and again.
    """
    learns = torch.is_grad_enabled() and (weight.requires_grad or mask.requires_grad)
    scaled: torch.Tensor
    if memory is not None and learns and not torch.compiler.is_compiling():
        if not mask.requires_grad and type(mask) is torch.Tensor:
            scaled = _ScaledByConstant.apply(weight, memory.spread(mask, pattern.spread, weight.dtype), memory)
            return scaled
        if serves(weight, mask):
            scaled = _ScaledPattern.apply(weight, mask, pattern, memory)
            return scaled
    return weight * pattern.spread(mask).to(weight.dtype)


class _ScaledByConstant(torch.autograd.Function):
    """Multiply a weight by a mask that serves many steps, already in the weight's shape."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, spread: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Return the product."""
        ctx.save_for_backward(spread)
        ctx.memory = memory
        return torch.mul(weight, spread, out=memory.pool.empty_like(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Return the gradient of the weight."""
        (spread,), gradient = ctx.saved_tensors, gradients[0].contiguous()
        in_place = ctx.memory.fresh_gradient and not torch.is_grad_enabled()
        return gradient.mul_(spread) if in_place else gradient * spread, None, None


class _ScaledPattern(torch.autograd.Function):
    """Multiply a weight by the mask of its elements in one pass over memory, forth and back."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, mask: torch.Tensor, pattern: Spread, memory: Memory) -> torch.Tensor:
        """Return the product."""
        ctx.save_for_backward(weight, mask)
        ctx.pattern, ctx.memory = pattern, memory
        product = memory.pool.empty_like(weight)
        pattern_product(*_tables(weight, mask, product))
        return product

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        """Return the gradients of the weight and of the mask."""
        weight, mask = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        if torch.is_grad_enabled() or not serves(gradient):
            return gradient * ctx.pattern.spread(mask), ctx.pattern.sums(gradient * weight).view(mask.shape), None, None
        product = gradient if ctx.memory.fresh_gradient else torch.empty_like(gradient)
        own, flat, incoming, outgoing = _tables(weight, mask, gradient, product)
        return product, pattern_gradients(incoming, own, flat, outgoing).view(mask.shape), None, None


def _tables(weight: torch.Tensor, mask: torch.Tensor, *like_weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return tensors as kernels take them: (out, in, taps), the mask (out, taps, covered)."""
    out, into, taps = weight.shape[0], weight.shape[1], math.prod(weight.shape[2:])
    own, *others = (tensor.detach().view(out, into, taps) for tensor in (weight, *like_weight))
    return own, mask.detach().view(out, taps, -1), *others
