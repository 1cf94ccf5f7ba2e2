"""A table of times that kernels took on one processor, and the time of any layer that follows from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from smartc.targets.cost_grid import CostGrid
from smartc.targets.tiling import Tiling
from smartc.targets.workload import Floats, Ints, OpKind, Workload

PointKind = Literal["matrix", "linear", "depthwise", "vector", "step", "packed"]

# Channels of a tile of a packed weight, in and out.
TILE = 8
# Below the smallest measured size a time falls with this power of the size: part of it is the call's own.
FALL = 0.5
# What the live tiles of a packed weight add falls in proportion to them.
PROPORTIONAL = 1.0
# Two times are the same from this ratio on: leaving out half of the last of two to four steps of channels would
# save 12 to 25 % if steps were half as long.
SAME_TIME = 0.94
# No kernel is faster than this, in nanoseconds; what tiles add can be lost in the noise.
LEAST_NS = 1.0
# From this share of its time on, a kernel's spread makes prices wrong by about as much.
NOISY = 0.1


@dataclass(frozen=True)
class CostPoint:
    """One kernel that was measured, on one thread.

    Attributes:
        kind: ``matrix`` (convolutions), ``linear``, ``depthwise`` and ``vector`` are dense ONNX Runtime, ``step``
            too, of channel counts that tell how many are computed at once; ``packed`` is our code in TVM.
        kernel: Taps.
        pixels: Of the output; rows of a linear layer.
        cin: Input channels.
        cout: Output channels.
        live: Tiles of a packed weight that are not zero; -1 where the weight is dense.
        us: Median of the processor time.
        spread_us: Half of the range that holds the middle half of the times.
    """

    kind: PointKind
    kernel: int
    pixels: int
    cin: int
    cout: int
    live: int
    us: float
    spread_us: float

    @property
    def macs(self) -> int:
        """Return the multiply-accumulates that are computed."""
        if self.kind == "packed":
            return self.live * TILE * TILE * self.pixels
        inner = {"matrix": self.cin, "linear": self.cin, "step": self.cin, "depthwise": 1, "vector": 0}[self.kind]
        return self.kernel * self.pixels * inner * self.cout


@dataclass(frozen=True)
class CostTable:
    """What was measured, on what and when.

    Attributes:
        schema: Of the file.
        processor: Its name.
        versions: Of the runtimes that were measured.
        date: When, as ISO 8601.
        seconds: How long that took.
        points: The kernels.
    """

    schema: int
    processor: str
    versions: Mapping[str, str]
    date: str
    seconds: float
    points: tuple[CostPoint, ...]

    @property
    def has_packed(self) -> bool:
        """Return whether block-sparse code was measured."""
        return any(point.kind == "packed" for point in self.points)

    @property
    def noise(self) -> float:
        """Return the median kernel's spread as a share of its time; from ``NOISY`` on it is too much."""
        return float(np.median([point.spread_us / point.us for point in self.points]))

    @cached_property
    def peak(self) -> float:
        """Return the most multiply-accumulates per nanosecond that a dense kernel reached."""
        return max(point.macs / (point.us * 1e3) for point in self.points if point.kind == "matrix")

    @cached_property
    def step(self) -> int:
        """Return how many channels a dense kernel computes at once, if only some of them are asked for.

        That is a whole tile, doubled as long as leaving out half of the last step saves no time.

        Raises:
            ValueError: Nothing that tells was measured.
        """
        times = {point.cout: point.us for point in self.points if point.kind == "step"}
        if not times:
            raise ValueError("no step kernel was measured")
        step = TILE
        while True:
            halves = [count for count in times if count % (2 * step) == step and count + step in times]
            if not halves or np.median([times[count] / times[count + step] for count in halves]) < SAME_TIME:
                return step
            step *= 2

    def check(self) -> None:
        """Raise ``ValueError`` unless every grid is complete and every time is one."""
        if not all(0 < point.us < np.inf for point in self.points):
            raise ValueError("a time is not a positive number")
        _ = self._matrix, self._linear, self._depthwise, self._vector, self.step
        if self.has_packed:
            _ = self._packed

    def dense(self, work: Workload, shape: Tiling) -> Floats:
        """Return the nanoseconds of each layer in dense ONNX Runtime."""
        vector = self._vector.at(work.vector_elements * work.cout)
        kinds = {
            OpKind.MATRIX: self._product(work, shape) * work.repeats,
            OpKind.DEPTHWISE: _between(self._depthwise, shape.taps, lambda grid: grid.at(work.pixels, work.cout)),
            OpKind.VECTOR: vector,
            OpKind.FREE: np.zeros(()),
        }
        times: Floats = np.select([work.kind == kind for kind in kinds], list(kinds.values()))
        return times

    def _product(self, work: Workload, shape: Tiling) -> Floats:
        """Return the nanoseconds of matrix products: few rows take what linear layers do, more no less than that."""
        pixels, taps = work.pixels * shape.groups, shape.taps
        most = self._linear.axes[0][-1]
        rows = self._linear.at(np.minimum(pixels, most), shape.cin, shape.cout)
        times = _between(self._matrix, taps, lambda grid: grid.at(pixels, shape.cin, shape.cout))
        # A convolution of many taps is none of these; one of a single tap is.
        result: Floats = np.where((taps == 1) & (pixels <= most), rows, np.maximum(times, rows))
        return result

    def packed(self, work: Workload, shape: Tiling) -> Floats:
        """Return the nanoseconds of each layer when only its live tiles are computed; it must be a MATRIX."""
        empty = {kernel: first for kernel, (first, _) in self._packed.items()}
        tiles = {kernel: second for kernel, (_, second) in self._packed.items()}
        channels = work.cin + work.cout
        # More taps than were measured show in the number of tiles.
        taps = np.minimum(shape.taps, max(tiles))
        times: Floats = _between(empty, taps, lambda grid: grid.at(work.pixels, channels))
        return times + (shape.live > 0) * _between(tiles, taps, lambda grid: grid.at(work.pixels, shape.live))

    @cached_property
    def _matrix(self) -> dict[int, CostGrid]:
        """Return by kernel the grid of pixels, input and output channels."""
        return self._grids("matrix", ("pixels", "cin", "cout"))

    @cached_property
    def _linear(self) -> CostGrid:
        """Return the grid of rows, input and output features."""
        return self._grids("linear", ("pixels", "cin", "cout"))[1]

    @cached_property
    def _depthwise(self) -> dict[int, CostGrid]:
        """Return by kernel the grid of pixels and channels."""
        return self._grids("depthwise", ("pixels", "cout"))

    @cached_property
    def _vector(self) -> CostGrid:
        """Return the grid of elements."""
        return self._grids("vector", ("pixels",))[1]

    @cached_property
    def _packed(self) -> dict[int, tuple[CostGrid, CostGrid]]:
        """Return by kernel what a layer without live tiles takes, and what live tiles add to it."""
        points = [point for point in self.points if point.kind == "packed"]
        kernels = sorted({point.kernel for point in points})
        return {kernel: _packed_grids([point for point in points if point.kernel == kernel]) for kernel in kernels}

    def _grids(self, kind: PointKind, axes: tuple[str, ...]) -> dict[int, CostGrid]:
        """Return by kernel the grid of the points of a kind."""
        points = [point for point in self.points if point.kind == kind]
        kernels = sorted({point.kernel for point in points})
        if not kernels:
            raise ValueError(f"no {kind} kernel was measured")
        return {
            kernel: _grid(
                {
                    tuple(getattr(point, axis) for axis in axes): point.us * 1e3
                    for point in points
                    if point.kernel == kernel
                },
                (FALL,) * len(axes),
            )
            for kernel in kernels
        }


def _packed_grids(points: Sequence[CostPoint]) -> tuple[CostGrid, CostGrid]:
    """Return what a packed layer takes without live tiles, and what live tiles add.

    Raises:
        ValueError: Some sizes were not measured.
    """
    empty: dict[tuple[int, ...], float] = {
        (point.pixels, point.cin + point.cout): point.us * 1e3 for point in points if not point.live
    }
    tiles: dict[tuple[int, ...], float] = {}
    for point in points:
        if point.live:
            base = empty.get((point.pixels, point.cin + point.cout))
            if base is None:
                raise ValueError("a packed kernel was not measured without live tiles")
            tiles[point.pixels, point.live] = max(point.us * 1e3 - base, LEAST_NS)
    return _grid(empty, (FALL, FALL)), _grid(tiles, (FALL, PROPORTIONAL))


def _grid(times: Mapping[tuple[int, ...], float], below: tuple[float, ...]) -> CostGrid:
    """Return the grid that the sizes of some times make.

    Raises:
        ValueError: They leave places of it empty.
    """
    if not times:
        raise ValueError("no size was measured")
    axes = tuple(sorted(set(values)) for values in zip(*times, strict=True))
    shape = tuple(len(axis) for axis in axes)
    if len(times) != np.prod(shape):
        raise ValueError(f"{len(times)} of {np.prod(shape)} sizes were measured")
    filled = np.empty(shape)
    for sizes, value in times.items():
        filled[tuple(axis.index(size) for axis, size in zip(axes, sizes, strict=True))] = value
    return CostGrid(tuple(np.array(axis, dtype=np.float64) for axis in axes), filled, below)


def _between(grids: Mapping[int, CostGrid], taps: Ints, times_of: Callable[[CostGrid], Floats]) -> Floats:
    """Return times between those of the kernels that were measured; more taps never take less time."""
    kernels = sorted(grids)
    logarithms = list(np.maximum.accumulate(np.stack([np.log(times_of(grids[kernel])) for kernel in kernels])))
    knots = np.log(np.array(kernels, dtype=np.float64))
    wanted = np.log(np.maximum(taps, 1))
    result = logarithms[0] + np.zeros(np.shape(wanted))
    for low, high, first, last in zip(knots, knots[1:], logarithms, logarithms[1:], strict=False):
        result = result + (last - first) * np.clip((wanted - low) / (high - low), 0.0, 1.0)
    excess = np.where(wanted < knots[0], FALL * (wanted - knots[0]), np.maximum(wanted - knots[-1], 0.0))
    times: Floats = np.exp(result + excess)
    return times
