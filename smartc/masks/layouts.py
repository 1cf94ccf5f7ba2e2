"""How the units of a mask lie in a weight: channels of an axis, tiles, or N:M patterns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch

from smartc.analysis.channels.channel_groups import FROZEN
from smartc.analysis.channels.labels import IntArray
from smartc.masks.scaled_pattern import scaled_pattern
from smartc.masks.scaled_rows import Grid, Memory, scaled_tiles

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]


class MaskLayout(Protocol):
    """Where each unit of a mask acts in one weight.

    Attributes:
        shape: The weight's shape.
        count: Number of units; masks, energies and sizes are flat and have an entry for each.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the weight's shape."""
        ...

    @property
    def count(self) -> int:
        """Return the number of units."""
        ...

    def apply(self, weight: torch.Tensor, mask: torch.Tensor, memory: Memory | None = None) -> torch.Tensor:
        """Return the weight times the mask of its units; differentiable by both.

        Args:
            weight: The weight.
            mask: Flat, an entry per unit.
            memory: Where the product may be put, if it is made again and again.
        """
        ...

    def sums(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over each unit of a tensor of the weight's shape, shape (count,); differentiable."""
        ...

    def times_inputs(self, weight: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        """Return the weight times a factor per input channel, those of all groups in order."""
        ...

    def facts(self) -> dict[str, Any]:
        """Return the facts that a reader of a plan needs to find the units."""
        ...


def support(layout: MaskLayout, keep: BoolArray) -> torch.Tensor:
    """Return whether each element of a weight is kept, shape of the weight."""
    mask = torch.from_numpy(keep.astype(np.float32))
    return layout.apply(torch.ones(layout.shape), mask) != 0


def sizes(layout: MaskLayout) -> IntArray:
    """Return the number of weights of each unit."""
    found: IntArray = layout.sums(torch.ones(layout.shape, dtype=torch.float64)).numpy().astype(np.int64)
    return found


@dataclass(frozen=True)
class Tiles:
    """Tiles of output x input channels, row by row, edge tiles smaller.

    Attributes:
        shape: The weight's shape: (out, in // groups, *kernel), or (in, out, *kernel) where ``flipped``.
        rows: Output channels of a tile.
        columns: Input channels of a tile.
        per_tap: Whether each kernel position has tiles of its own.
        groups: Groups of a convolution; no tile lies in two of them.
        flipped: Whether the input channels come first, as in a transposed convolution.
    """

    shape: tuple[int, ...]
    rows: int
    columns: int
    per_tap: bool = True
    groups: int = 1
    flipped: bool = False

    @property
    def out(self) -> int:
        """Return the output channels of a group."""
        return self._tiling.out

    @property
    def into(self) -> int:
        """Return the input channels of a group."""
        return self._tiling.into

    @property
    def taps(self) -> int:
        """Return the number of kernel positions."""
        return self._tiling.taps

    @property
    def grid(self) -> tuple[int, int, int, int]:
        """Return the numbers of groups, tile rows in each, tile columns, and tiles of a pair over the kernel."""
        return self._tiling.shape

    @property
    def count(self) -> int:
        """Return the number of tiles."""
        return math.prod(self.grid)

    @cached_property
    def _tiling(self) -> Grid:
        """Return the tiles of the weight with its output channels first."""
        out, into = self.shape[1::-1] if self.flipped else self.shape[:2]
        taps = math.prod(self.shape[2:])
        return Grid(self.groups, out // self.groups, into, taps, self.rows, self.columns, self.per_tap)

    def apply(self, weight: torch.Tensor, mask: torch.Tensor, memory: Memory | None = None) -> torch.Tensor:
        """Return the weight times the mask of its tiles."""
        if not self.flipped:
            return scaled_tiles(weight, mask, self._tiling, memory)
        return scaled_tiles(weight.transpose(0, 1), mask, self._tiling, None).transpose(0, 1)

    def sums(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over each tile."""
        return self._tiling.sums(values.transpose(0, 1) if self.flipped else values)

    def times_inputs(self, weight: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        """Return the weight times a factor per input channel."""
        return _times_inputs(weight, factors, self.groups, self.flipped)

    def facts(self) -> dict[str, Any]:
        """Return the tile, and the grid in whose order the tiles are counted: groups, rows, columns, taps."""
        tile = {"rows": self.rows, "columns": self.columns, "per_tap": self.per_tap}
        return {"shape": list(self.shape), "tile": tile, "grid": list(self.grid), "input_first": self.flipped}


@dataclass(frozen=True, eq=False)
class Channels:
    """Units that are the indices of one axis.

    Attributes:
        shape: The weight's shape.
        axis: The axis.
        units: The unit of each index; FROZEN where the index always stays.
        count: The number of units of the whole model.
    """

    shape: tuple[int, ...]
    axis: int
    units: IntArray
    count: int

    @cached_property
    def _index(self) -> torch.Tensor:
        """Return the unit of each index, with one more that is always kept for the frozen."""
        return torch.from_numpy(np.where(self.units == FROZEN, self.count, self.units))

    def apply(self, weight: torch.Tensor, mask: torch.Tensor, memory: Memory | None = None) -> torch.Tensor:
        """Return the weight times the mask of the axis."""
        scale = self._scale(mask).to(weight.dtype)
        if self.axis == 1:
            out, into, *kernel = self.shape
            return scaled_tiles(weight, scale, Grid(1, out, into, math.prod(kernel), out, 1, False), memory)
        return weight * scale.reshape([-1 if axis == self.axis else 1 for axis in range(weight.ndim)])

    def apply_to_inputs(self, inputs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return a layer's inputs times the mask, of which it computes what its masked weight would of the inputs.

        Args:
            inputs: Shape (..., C, *space) with as many axes of space as the weight has of its kernel; C is the
                axis's size, or a multiple of it: then each group of a convolution reads the axis's units.
            mask: Flat, an entry per unit.
        """
        space = len(self.shape) - 2
        scale = self._scale(mask).repeat(inputs.shape[-1 - space] // self.shape[self.axis])
        return (inputs * scale.reshape(-1, *[1] * space)).to(inputs.dtype)

    def _scale(self, mask: torch.Tensor) -> torch.Tensor:
        """Return the mask of each index."""
        extended = torch.cat([mask, mask.new_ones(1)])
        return extended.index_select(0, self._index.to(mask.device))

    def sums(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over each unit's indices."""
        along = values.movedim(self.axis, 0).reshape(values.shape[self.axis], -1).sum(1)
        return along.new_zeros(self.count + 1).index_add(0, self._index.to(values.device), along)[:-1]

    def times_inputs(self, weight: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        """Return the weight as it is: the energy of channels is computed from their readers."""
        return weight

    def facts(self) -> dict[str, Any]:
        """Return the axis and the unit of each of its indices."""
        return {"shape": list(self.shape), "axis": self.axis, "units": self.units.tolist()}


@dataclass(frozen=True)
class Pattern:
    """Single weights in groups of ``m`` neighbours along the input channels at one kernel position.

    The flat order is (out, taps, groups of m, m).  Input channels beyond the last whole group have no
    units and stay.

    Attributes:
        shape: The weight's shape: (out, in, *kernel), or (in, out, *kernel) where ``flipped``.
        m: Weights of a group.
        flipped: Whether the input channels come first.
    """

    shape: tuple[int, ...]
    m: int
    flipped: bool = False

    @property
    def _sizes(self) -> tuple[int, int, int, int]:
        """Return the output channels, the input channels in whole groups, those left over, and the taps."""
        out, into = self.shape[:2] if not self.flipped else self.shape[1::-1]
        return out, into // self.m * self.m, into % self.m, math.prod(self.shape[2:])

    @property
    def count(self) -> int:
        """Return the number of weights in whole groups."""
        out, covered, _, taps = self._sizes
        return out * covered * taps

    def apply(self, weight: torch.Tensor, mask: torch.Tensor, memory: Memory | None = None) -> torch.Tensor:
        """Return the weight times the mask."""
        return scaled_pattern(weight, mask, self, None if self.flipped else memory)

    def spread(self, mask: torch.Tensor) -> torch.Tensor:
        """Return the mask of each weight, in the shape of all; a view where no weight is left over."""
        out, covered, rest, taps = self._sizes
        spread = mask.reshape(out, taps, covered).transpose(1, 2)
        if rest:
            spread = torch.cat([spread, mask.new_ones(out, rest, taps)], dim=1)
        if self.flipped:
            spread = spread.transpose(0, 1)
        return spread.unflatten(2, self.shape[2:]) if self.shape[2:] else spread[..., 0]

    def sums(self, values: torch.Tensor) -> torch.Tensor:
        """Return the covered values in the order of the units."""
        out, covered, _, taps = self._sizes
        matrix = (values.transpose(0, 1) if self.flipped else values).reshape(out, -1, taps)
        return matrix[:, :covered].transpose(1, 2).reshape(-1)

    def times_inputs(self, weight: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        """Return the weight times a factor per input channel."""
        inner = self.shape[0] if self.flipped else self.shape[1]
        return _times_inputs(weight, factors, max(len(factors) // inner, 1), self.flipped)

    def facts(self) -> dict[str, Any]:
        """Return the length of a group; weights are counted by output channel, tap and input channel."""
        return {"shape": list(self.shape), "group": self.m, "input_first": self.flipped}


def _times_inputs(weight: torch.Tensor, factors: torch.Tensor, groups: int, flipped: bool) -> torch.Tensor:
    """Return a weight times a factor per input channel; each group of outputs has inputs of its own."""
    kernel = [1] * (weight.ndim - 2)
    if flipped:
        return weight * factors.reshape(-1, 1, *kernel)
    table = factors.reshape(groups, 1, -1).expand(groups, weight.shape[0] // groups, -1)
    return weight * table.reshape(weight.shape[0], -1, *kernel)
