"""Max pooling that reads its input where it lies: first over the rows of the window, then over its columns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from smartc.kernels.inference.geometry import Geometry
from smartc.kernels.inference.layout import Grid, Layout, rounded
from smartc.kernels.inference.map_writer import MapWriter
from smartc.kernels.vector_math import splat

# What is no pixel is never a maximum.
LEAST = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class MaxPool:
    """One call of the kernel.

    Attributes:
        name: Of the function, a C identifier.
        geometry: The window: without dilation, its stride to the right at most two.
        source: Where the input lies, its pixels of a row side by side.
        target: Where the output goes.
        grid: The output's grid, without planes.
    """

    name: str
    geometry: Geometry
    source: Layout
    target: Layout
    grid: Grid

    @property
    def lead(self) -> int:
        """Return the place of a row's first pixel in the row of maxima."""
        return rounded(self.geometry.padding[1], self.grid.lanes)

    @property
    def length(self) -> int:
        """Return the places of the row of maxima: whole vectors of every column of the window are read."""
        reach = rounded(self.grid.width, self.grid.lanes) * self.geometry.stride[1] + self.geometry.kernel[1]
        return self.lead + rounded(max(reach, self.geometry.source[1]), self.grid.lanes)


def direct(geometry: Geometry, source: Layout, grid: Grid) -> bool:
    """Return whether the kernel can compute a window."""
    whole = geometry.dilation == (1, 1) and geometry.stride[1] <= 2 and not grid.shifts
    # A clamped row must be one of the window's.
    inside = (geometry.target[0] - 1) * geometry.stride[0] - geometry.padding[0] < geometry.source[0]
    return whole and inside and geometry.padding[0] < geometry.kernel[0] and source.strides[3] == 1


def max_pool_kernel(call: MaxPool) -> Any:
    """Return the function ``(x, out)`` on flat buffers."""
    channels, lanes = call.target.shape[1], call.grid.lanes
    writer = MapWriter(call.grid, call.target, call.grid.places, False)
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(call.name)
        T.func_attr({"tirx.noalias": True})
        x = T.arg("x", T.buffer((call.source.size,), "float32"))
        writer.declare_output()
        with T.parallel(0, call.target.shape[0] * channels) as index, T.sblock("channel"):
            place = T.axis.spatial(call.target.shape[0] * channels, index)
            image, channel = tirx.floordiv(place, channels), tirx.floormod(place, channels)
            source, target = (
                image * layout.strides[0] + channel * layout.strides[1] + layout.offset
                for layout in (call.source, call.target)
            )
            maxima = T.sblock_alloc_buffer((call.length,), "float32", scope="global")
            with T.serial(0, call.length // lanes) as step:
                T.buffer_store(maxima, splat(LEAST, lanes), [T.Ramp(step * lanes, 1, lanes)])
            writer.clear_around(target)
            with T.serial(0, call.grid.height) as y:
                _over_rows(call, (x, source), maxima, y)
                _over_columns(call, maxima, (writer.out, target + y * call.grid.pitch))
    return builder.get()


def _over_rows(call: MaxPool, source: tuple[Any, Any], maxima: Any, y: Any) -> None:
    """Take the maximum over the window's rows, for each column of the map."""
    geometry, (x, first) = call.geometry, source
    rows = [
        tirx.max(tirx.min(y * geometry.stride[0] + tap - geometry.padding[0], geometry.source[0] - 1), 0)
        for tap in range(geometry.kernel[0])
    ]
    for start, count, width in pieces(geometry.source[1], call.grid.lanes):
        with T.serial(0, count) as step:
            column = start + step * width
            parts = [x[_run(first + row * call.source.strides[2] + column, width)] for row in rows]
            T.buffer_store(maxima, reduce(tirx.max, parts), [_run(call.lead + column, width)])


def _over_columns(call: MaxPool, maxima: Any, target: tuple[Any, Any]) -> None:
    """Take the maximum over the window's columns and store a row, with the zeros after it."""
    (out, first), stride = target, call.geometry.stride[1]
    for start, count, width in pieces(call.grid.width, call.grid.lanes):
        with T.serial(0, count) as step:
            column = start + step * width
            read = call.lead - call.geometry.padding[1] + column * stride
            parts = [_every(maxima, read + tap, stride, width) for tap in range(call.geometry.kernel[1])]
            T.buffer_store(out, reduce(tirx.max, parts), [_run(first + column, width)])
    if call.grid.gap:
        with T.serial(0, call.grid.gap) as step:
            T.buffer_store(out, splat(0.0, 1), [first + call.grid.width + step])


def _every(buffer: Any, place: Any, stride: int, width: int) -> Any:
    """Return ``width`` elements of a buffer that lie a stride apart."""
    if width == 1 or stride == 1:
        return buffer[_run(place, width)]
    return tirx.Shuffle([buffer[T.Ramp(place, 1, stride * width)]], list(range(0, stride * width, stride)))


def _run(place: Any, width: int) -> Any:
    """Return the index of ``width`` neighbours."""
    return T.Ramp(place, 1, width) if width > 1 else place


def pieces(size: int, lanes: int) -> list[tuple[int, int, int]]:
    """Return start, number and width of the vectors of a row: whole ones, then one of each smaller power of two."""
    found, start = [], 0
    while lanes:
        count = (size - start) // lanes
        if count:
            found.append((start, count, lanes))
            start += count * lanes
        lanes //= 2
    return found
