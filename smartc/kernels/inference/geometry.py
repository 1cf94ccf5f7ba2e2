"""Windows that slide over a map of pixels: their shifts, the phases of their stride, the zeros that they need."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from smartc.kernels.inference.copies import Phases
from smartc.kernels.inference.layout import Grid, Layout, rounded
from smartc.kernels.inference.packing import Integers

Pair = tuple[int, int]
# The widest gap that neighbours share: with a wider one, every map of its size would carry it.
WIDEST_SHARED_GAP = 3


@dataclass(frozen=True)
class Geometry:
    """A window of a size on a map of pixels; pairs are vertical, horizontal.

    Attributes:
        kernel, stride, padding, dilation: As PyTorch has them.
        source, target: Height and width of the input and of the output.
    """

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    source: Pair
    target: Pair

    @cached_property
    def shifts(self) -> tuple[Pair, ...]:
        """Return the distance from ``stride * (y, x)`` to the pixel that each tap reads."""
        down = [tap * self.dilation[0] - self.padding[0] for tap in range(self.kernel[0])]
        right = [tap * self.dilation[1] - self.padding[1] for tap in range(self.kernel[1])]
        return tuple((y, x) for y in down for x in right)

    @property
    def in_place(self) -> bool:
        """Return whether input and output can share a grid, the taps being distances in it."""
        return self.stride == (1, 1) and self.source == self.target

    @property
    def shared_gap(self) -> int:
        """Return the zeros that a shared grid needs between its rows."""
        return max(max(abs(y), abs(x)) for y, x in self.shifts)

    @property
    def reach(self) -> int:
        """Return the elements before and after a map, its rows without gap, that a window in place reads."""
        return max(abs(y * self.source[1] + x) for y, x in self.shifts)

    @property
    def planes(self) -> tuple[int, tuple[int, ...]]:
        """Return the rows of zeros and the shifted planes that a window in place needs of a map without gap."""
        columns = {x for _, x in self.shifts}
        return max(abs(y) for y, _ in self.shifts), tuple(sorted(columns - {0}))

    @cached_property
    def gap(self) -> int:
        """Return the zeros that the output's grid needs between its rows, to have the pitch of the phases."""
        need = 0
        for shift in {pair[1] for pair in self.shifts}:
            step, first = divmod(shift, self.stride[1])
            there = self._there(1, first)
            # A row's zeros are also those before the next row.
            zeros = max(-step, self.target[1] + step - there, 0)
            need = max(need, there + zeros - self.target[1])
        return need

    def _there(self, axis: int, first: int) -> int:
        """Return the pixels along an axis that are kept of a phase: as many as are read of any, at most all."""
        furthest = max(pair[axis] // self.stride[axis] for pair in self.shifts)
        available = len(range(first, self.source[axis], self.stride[axis]))
        return max(min(available, self.target[axis] + furthest), 0)

    def fits(self, grid: Grid) -> bool:
        """Return whether rows of the grid's pitch hold those of every phase."""
        return max(self._there(1, x % self.stride[1]) for _, x in self.shifts) <= grid.pitch

    def phases(self, grid: Grid, fill: float = 0.0, edges: bool = False) -> Phases:
        """Return the phases that the input is split into, so that its rows have the pitch of the output's grid.

        Where the grid's gap is too narrow for windows that read beyond a row, each column of the window has phases
        of its own; unless rows fit, and ``edges`` says that what is read beyond their ends does not count.
        """
        if grid.gap >= self.gap or (edges and self.fits(grid)):
            starts = dict.fromkeys((y % self.stride[0], x % self.stride[1]) for y, x in self.shifts)
            columns = max(self._there(1, right) for _, right in starts)
            steps = [(y // self.stride[0], x // self.stride[1]) for y, x in self.shifts]
        else:
            starts = dict.fromkeys((y % self.stride[0], x) for y, x in self.shifts)
            columns = self.target[1]
            steps = [(y // self.stride[0], 0) for y, x in self.shifts]
        size = max(self._there(0, down) for down, _ in starts), columns
        before = max(0, *(-y * grid.pitch - x for y, x in steps))
        after = max(y * grid.pitch + x for y, x in steps)
        lead = rounded(before, grid.lanes)
        end = max(after + grid.vectors * grid.lanes, size[0] * grid.pitch)
        return Phases(self.stride, tuple(starts), size, lead, grid.pitch, rounded(lead + end, grid.lanes), fill)

    def taps_in_phases(self, phases: Phases) -> Integers:
        """Return each tap's distance from the first pixel of the first phase."""
        order = {start: number for number, start in enumerate(phases.phases)}
        places = []
        for y, x in self.shifts:
            down, first_row = divmod(y, self.stride[0])
            right, first = (0, x) if (first_row, x) in order else divmod(x, self.stride[1])
            places.append(order[first_row, first] * phases.length + down * phases.pitch + right)
        return np.array(places, np.int32)

    def taps_in_grid(self, layout: Layout) -> Integers:
        """Return each tap's distance in a map that input and output share, or that has a plane for each column."""
        planes = dict(layout.planes)
        pitch = layout.strides[2] or self.source[1]
        return np.array([y * pitch + planes.get(x, x) for y, x in self.shifts], np.int32)


def pixel_mask(grid: Grid) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return 1 at pixels and 0 between them, shape (vectors * lanes,)."""
    mask = np.zeros(grid.vectors * grid.lanes, np.float32)
    places = np.arange(grid.height)[:, None] * grid.pitch + np.arange(grid.width)
    mask[places.ravel()] = 1
    return mask
