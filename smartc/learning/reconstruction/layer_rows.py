"""See a convolution or linear layer as a matrix: a row of inputs per output position, a row of weights per channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, fx

from smartc.ir.traced_model import argument_of, arguments_of, operator_of


@dataclass(frozen=True)
class LayerRows:
    """The matrix view of one layer.

    A weight becomes (groups, out // groups, K) with K = in // groups * kernel positions, in the order
    (channel, position); the inputs of one output position become (groups, K).

    Attributes:
        kernel: Sizes of the kernel; () for a linear layer or product, whose positions are all axes but the last.
        stride, padding, dilation: Per axis of space.
        groups: Number of groups.
        transposed: Whether the weight is (in, out // groups, *kernel): a transposed convolution's or a product's.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    transposed: bool

    @classmethod
    def of(cls, node: fx.Node, weight: Tensor) -> LayerRows:
        """Return the view of a call that is a layer."""
        operator = operator_of(node)
        transposed = operator.weight is not None and operator.weight.transposed
        if not operator.is_convolution:
            return cls((), (), (), (), 1, transposed)
        rank = weight.ndim - 2
        kernel = tuple(weight.shape[2:])
        places = (7, 6) if transposed else (5, 6)
        dilation = _each(argument_of(node, places[0], "dilation", 1), rank)
        padding = argument_of(node, 4, "padding", 0)
        if isinstance(padding, str):
            # The exporter keeps "same" and "valid"; an even kernel pads one less in front.
            padding = [d * (k - 1) // 2 if padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
        stride = _each(argument_of(node, 3, "stride", 1), rank)
        groups = int(argument_of(node, places[1], "groups", 1))
        return cls(kernel, stride, _each(padding, rank), dilation, groups, transposed)

    def weight_rows(self, weight: Tensor) -> Tensor:
        """Return a weight as (groups, out // groups, K)."""
        if self.transposed:
            grouped = weight.reshape(self.groups, -1, *weight.shape[1:])
            return grouped.transpose(1, 2).flatten(2)
        return weight.reshape(self.groups, weight.shape[0] // self.groups, -1)

    def weight_of(self, rows: Tensor, shape: Sequence[int]) -> Tensor:
        """Return a weight of the given shape from its rows: the inverse of ``weight_rows``."""
        if not self.transposed:
            return rows.reshape(tuple(shape))
        per_group = (self.groups, shape[1], shape[0] // self.groups, *shape[2:])
        return rows.reshape(per_group).transpose(1, 2).reshape(tuple(shape))

    def channels_first(self, x: Tensor) -> Tensor:
        """Return a layer's input or output as (N, channels, *space)."""
        if self.kernel:
            return x if x.ndim == len(self.kernel) + 2 else x.unsqueeze(0)
        x = x.reshape(1, 1, -1) if x.ndim == 1 else x.reshape(len(x), -1, x.shape[-1])
        return x.transpose(1, 2)

    def taps(self, positions: Tensor, output: Sequence[int], source: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the input positions that each output position reads.

        Args:
            positions: Flat output positions, shape (P,).
            output: Sizes of the output's space.
            source: Sizes of the input's space.

        Returns:
            Flat input positions and whether they lie inside the input, both (P, kernel positions).
        """
        if not self.kernel:
            return positions[:, None], torch.ones_like(positions[:, None], dtype=torch.bool)
        offsets = torch.tensor(list(product(*(range(size) for size in self.kernel))), device=positions.device)
        flat = torch.zeros(len(positions), len(offsets), dtype=torch.int64, device=positions.device)
        inside = torch.ones_like(flat, dtype=torch.bool)
        for axis, size in enumerate(source):
            along = positions // math.prod(output[axis + 1 :]) % output[axis]
            at, hits = self._along(axis, along[:, None], offsets[None, :, axis])
            inside &= hits & (at >= 0) & (at < size)
            flat = flat * size + at.clamp(0, size - 1)
        return flat, inside

    def _along(self, axis: int, position: Tensor, offset: Tensor) -> tuple[Tensor, Tensor | bool]:
        """Return the positions that are read along one axis, and whether they lie inside it."""
        stride, padding, dilation = self.stride[axis], self.padding[axis], self.dilation[axis]
        if not self.transposed:
            return position * stride - padding + offset * dilation, True
        reach = position + padding - offset * dilation
        return torch.div(reach, stride, rounding_mode="floor"), reach % stride == 0

    def rows(self, image: Tensor, positions: Tensor, output: Sequence[int]) -> Tensor:
        """Return one image's inputs at some output positions.

        Args:
            image: Shape (channels, *space).
            positions: Flat output positions, shape (P,).
            output: Sizes of the output's space.

        Returns:
            Shape (groups, P, K).
        """
        flat, inside = self.taps(positions, output, image.shape[1:])
        picked = image.flatten(1)[:, flat.reshape(-1)].reshape(len(image), *flat.shape)
        if not bool(inside.all()):
            picked = picked * inside
        return picked.reshape(self.groups, -1, *flat.shape).permute(0, 2, 1, 3).flatten(2)

    def targets(self, image: Tensor, positions: Tensor) -> Tensor:
        """Return one image's outputs, shape (channels, *space), at some positions: (groups, P, out // groups)."""
        picked = image.flatten(1)[:, positions]
        return picked.reshape(self.groups, -1, len(positions)).transpose(1, 2)


def is_layer(node: fx.Node) -> bool:
    """Return whether a call is a convolution, a linear layer, or a product whose weight comes second."""
    weight = operator_of(node).weight
    return weight is not None and weight.place == 1 and len(arguments_of(node)) > 1


def _each(value: Any, rank: int) -> tuple[int, ...]:
    """Return one number per axis of space."""
    sizes = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    return tuple(int(size) for size in (sizes * rank if len(sizes) == 1 else sizes))
