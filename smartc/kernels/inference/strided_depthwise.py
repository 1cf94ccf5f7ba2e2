"""Depthwise convolution that reads its input where it lies: rows of any stride, pixels side by side or two apart.

A row of the output is computed in vectors.  Which rows and columns of a window lie outside the map is known for each
of its rows and vectors when the kernel is built: taps there are left out, or their lanes not loaded.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from smartc.kernels.inference.geometry import Geometry
from smartc.kernels.inference.layout import Grid, Layout
from smartc.kernels.inference.map_writer import MapWriter
from smartc.kernels.inference.vector_memory import masked_load, masked_store
from smartc.kernels.vector_math import Activation, splat

# A row's last vector is as narrow as its pixels allow, but no narrower.
NARROWEST = 4
# Rows of a window, at most: where other rows of it lie outside the map there is code of its own.
MOST_ROWS = 8


@dataclass(frozen=True)
class Rows:
    """Rows of the output that the same rows of the window are in the map for.

    Attributes:
        first, count: Which.
        taps: The rows of the window.
    """

    first: int
    count: int
    taps: tuple[int, ...]


@dataclass(frozen=True)
class Vectors:
    """Vectors of a row.

    Attributes:
        first: Their first pixel.
        count: How many.
        lanes: Of each.
        safe: Whether all that they load lies in the row.
    """

    first: int
    count: int
    lanes: int
    safe: bool


@dataclass(frozen=True)
class StridedDepthwise:
    """One call of the kernel.

    Attributes:
        name: Of the function, a C identifier.
        geometry: The window; its stride to the right is at most two.
        source: Where the input lies, its pixels of a row side by side.
        target: Where the output goes.
        grid: The output's grid, without planes.
        activation: Applied last, or None.
    """

    name: str
    geometry: Geometry
    source: Layout
    target: Layout
    grid: Grid
    activation: Activation | None

    @property
    def rows(self) -> list[Rows]:
        """Return the rows of the output, with those of the window that lie in the map."""
        geometry = self.geometry
        inside = [
            tuple(
                tap
                for tap in range(geometry.kernel[0])
                if 0 <= y * geometry.stride[0] + _shift(geometry, 0, tap) < geometry.source[0]
            )
            for y in range(geometry.target[0])
        ]
        runs: list[Rows] = []
        for taps, run in itertools.groupby(inside):
            first, count = runs[-1].first + runs[-1].count if runs else 0, len(list(run))
            runs.append(Rows(first, count, taps))
        return runs

    @property
    def vectors(self) -> list[Vectors]:
        """Return the vectors of a row."""
        lanes, width = self.grid.lanes, self.grid.width
        found: list[Vectors] = []
        for start in range(0, width, lanes):
            size = min(lanes, max(NARROWEST, 1 << (width - start - 1).bit_length()))
            safe = size <= width - start and all(self.inside(start, size, load) is None for load in self.loads)
            if safe and size == lanes and found and found[-1].safe:
                found[-1] = replace(found[-1], count=found[-1].count + 1)
            else:
                found.append(Vectors(start, 1, size, safe))
        return found

    @property
    def loads(self) -> dict[int, list[tuple[int, int]]]:
        """Return the columns of the window that each load serves, by its distance from a vector's first pixel.

        Each is a column and the place of its pixel among every two that are loaded, where the stride is two.
        """
        stride, found = self.geometry.stride[1], dict[int, list[tuple[int, int]]]()
        for tap in range(self.geometry.kernel[1]):
            shift = _shift(self.geometry, 1, tap)
            found.setdefault(shift // stride * stride, []).append((tap, shift % stride))
        return found

    def inside(self, start: int, lanes: int, load: int) -> tuple[int, int] | None:
        """Return the first of the loaded pixels that lies in the row and the end of these; None if all do."""
        first, count = start * self.geometry.stride[1] + load, lanes * self.geometry.stride[1]
        low, high = max(-first, 0), min(self.geometry.source[1] - first, count)
        return None if (low, high) == (0, count) else (low, high)


def reads_in_place(geometry: Geometry, source: Layout, grid: Grid) -> bool:
    """Return whether the kernel can compute a window; one whose input and output share a grid needs no such care."""
    known = not geometry.in_place and geometry.stride[1] <= 2 and not grid.shifts
    return known and source.strides[3] in (0, 1) and geometry.kernel[0] <= MOST_ROWS


def strided_depthwise_kernel(call: StridedDepthwise) -> Any:
    """Return the function ``(x, values, bias, out)``; values: (channels * taps,), bias: (channels,); all are flat."""
    kernel = _Kernel(call)
    count = call.target.shape[0] * call.target.shape[1]
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(call.name)
        T.func_attr({"tirx.noalias": True})
        kernel.declare()
        with T.parallel(0, count) as index, T.sblock("channel"):
            kernel.compute(T.axis.spatial(count, index))
    return builder.get()


class _Kernel:
    """The buffers of the function while it is built."""

    def __init__(self, call: StridedDepthwise) -> None:
        self.call = call
        self.channels = call.target.shape[1]
        self.taps = call.geometry.kernel[0] * call.geometry.kernel[1]
        self.writer = MapWriter(call.grid, call.target, call.grid.places, False)

    def declare(self) -> None:
        """Declare the arguments."""
        self.x = T.arg("x", T.buffer((self.call.source.size,), "float32"))
        self.values = T.arg("values", T.buffer((self.channels * self.taps,), "float32"))
        self.bias = T.arg("bias", T.buffer((self.channels,), "float32"))
        self.writer.declare_output()

    def compute(self, place: Any) -> None:
        """Compute one channel of one image."""
        source, target, grid = self.call.source, self.call.target, self.call.grid
        image, self.channel = tirx.floordiv(place, self.channels), tirx.floormod(place, self.channels)
        read = tirx.floordiv(self.channel, self.channels // source.shape[1])
        self.first = image * source.strides[0] + read * source.strides[1] + source.offset
        write = image * target.strides[0] + self.channel * target.strides[1] + target.offset
        self.writer.clear_around(write)
        for rows in self.call.rows:
            with T.serial(0, rows.count) as step:
                y = rows.first + step
                for vectors in self.call.vectors:
                    with T.serial(0, vectors.count) as number:
                        x = vectors.first + number * vectors.lanes
                        self._store(self._vector(rows, vectors, y, x), vectors, write + y * grid.pitch + x)
                if grid.gap:
                    end = write + y * grid.pitch + grid.width
                    with T.serial(0, grid.gap) as after:
                        T.buffer_store(self.writer.out, splat(0.0, 1), [end + after])

    def _vector(self, rows: Rows, vectors: Vectors, y: Any, x: Any) -> Any:
        """Return one vector of a row, from pixel x on."""
        geometry, lanes = self.call.geometry, vectors.lanes
        total = T.Broadcast(self.bias[self.channel], lanes)
        for down in rows.taps:
            line = self.first + (y * geometry.stride[0] + _shift(geometry, 0, down)) * self.call.source.strides[2]
            for load, columns in self.call.loads.items():
                loaded = self._load(vectors, load, line + x * geometry.stride[1] + load)
                for column, part in columns:
                    number = self.channel * self.taps + down * geometry.kernel[1] + column
                    total = total + T.Broadcast(self.values[number], lanes) * self._every(loaded, part, lanes)
        return self.call.activation.apply(total, lanes) if self.call.activation else total

    def _load(self, vectors: Vectors, load: int, place: Any) -> Any:
        """Return the pixels from a place on; zeros where they lie outside the row, which are not read."""
        count = vectors.lanes * self.call.geometry.stride[1]
        inside = None if vectors.safe else self.call.inside(vectors.first, vectors.lanes, load)
        if inside is None:
            return self.x[T.Ramp(place, 1, count)]
        low, high = inside
        if low >= high:
            return splat(0.0, count)
        here = T.Ramp(0, 1, count)
        mask = tirx.And(here >= T.Broadcast(low, count), here < T.Broadcast(high, count))
        return T.bind(masked_load(self.x, place, mask, count))

    def _every(self, loaded: Any, part: int, lanes: int) -> Any:
        """Return every pixel of a load, or every second one."""
        stride = self.call.geometry.stride[1]
        return loaded if stride == 1 else tirx.Shuffle([loaded], list(range(part, stride * lanes, stride)))

    def _store(self, value: Any, vectors: Vectors, place: Any) -> None:
        """Store the lanes of a vector that are pixels."""
        lanes, pixels = vectors.lanes, self.call.grid.width - vectors.first
        if pixels >= lanes:
            T.buffer_store(self.writer.out, value, [T.Ramp(place, 1, lanes)])
            return
        mask = T.Ramp(0, 1, lanes) < T.Broadcast(pixels, lanes)
        masked_store(self.writer.out, place, value, mask)


def _shift(geometry: Geometry, axis: int, tap: int) -> int:
    """Return the distance from the output's pixel times the stride to what a row or column of the window reads."""
    return tap * geometry.dilation[axis] - geometry.padding[axis]
