"""Convolutions in float64, whose copies of the input for each tap of the kernel would fill the memory, in parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

# What the copies of one part may take.
PART_BYTES = 2**27
aten = torch.ops.aten


class ConvolveInParts(TorchDispatchMode):
    """Compute large convolutions over a few rows, or for a few output channels, at a time: to the same sums."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call an operator, a large convolution in parts."""
        if func is aten.convolution.default and args[0].dtype == torch.float64 and not kwargs:
            return convolve(*args)
        return func(*args, **(kwargs or {}))


def convolve(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    *rest: Any,
) -> torch.Tensor:
    """Return what ``aten.convolution`` returns of the same arguments.

    Args:
        x: Shape (N, in, *space).
        weight: Shape (out, in // groups, *kernel); transposed (in, out // groups, *kernel).
        bias: Shape (out,), or None.
        stride: As many as axes of space, or one for all, like the next two.
        padding: See there.
        dilation: See there.
        rest: Whether it is transposed, the padding of its output, and the groups.
    """
    space = x.ndim - 2
    steps = [list(one) * (space if len(one) == 1 else 1) for one in (stride, padding, dilation)]
    transposed, _, groups = rest
    if transposed:
        copies = math.prod(weight.shape[1:]) * math.prod(x.shape[2:]) * x.element_size()
        parts = 1 if groups > 1 else min(-(-copies // PART_BYTES), weight.shape[1])
        return _by_output_channels(x, weight, bias, parts, (*steps, *rest))
    return _by_rows(x, weight, bias, (*steps, *rest))


def _by_output_channels(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, parts: int, rest: tuple[Any, ...]
) -> torch.Tensor:
    """Return a transposed convolution, its output channels in parts."""
    if parts < 2:
        return torch.convolution(x, weight, bias, *rest)
    weights = weight.chunk(parts, 1)
    biases = [None] * len(weights) if bias is None else bias.split([one.shape[1] for one in weights])
    return torch.cat([torch.convolution(x, *pair, *rest) for pair in zip(weights, biases, strict=True)], 1)


def _by_rows(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, rest: tuple[Any, ...]) -> torch.Tensor:
    """Return a convolution, the rows of its output in parts."""
    stride, padding, dilation, *others = rest
    axes = zip(x.shape[2:], padding, dilation, weight.shape[2:], stride, strict=True)
    sizes = [(size + 2 * pad - step * (taps - 1) - 1) // jump + 1 for size, pad, step, taps, jump in axes]
    copies = len(x) * x.shape[1] * math.prod(weight.shape[2:]) * math.prod(sizes) * x.element_size()
    if copies <= PART_BYTES or sizes[0] < 2:
        return torch.convolution(x, weight, bias, *rest)
    rows = max(1, PART_BYTES * sizes[0] // copies)
    reach = dilation[0] * (weight.shape[2] - 1) + 1
    output = x.new_empty((len(x), len(weight), *sizes))
    for first in range(0, sizes[0], rows):
        last = min(first + rows, sizes[0]) - 1
        part = _rows(x, first * stride[0] - padding[0], last * stride[0] - padding[0] + reach)
        output[:, :, first : last + 1] = torch.convolution(
            part, weight, bias, stride, [0, *padding[1:]], dilation, *others
        )
    return output


def _rows(x: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """Return some rows of axis 2; those before its first and behind its last are zero."""
    before = min(max(-start, 0), stop - start)
    inside = x[:, :, max(start, 0) : max(start, 0, min(stop, x.shape[2]))]
    behind = stop - start - before - inside.shape[2]
    return functional.pad(inside, [0, 0] * (x.ndim - 3) + [before, behind]) if before or behind else inside
