"""The block-sparse convolution: pixels in the lanes of a vector, each non-zero column of the weight a shifted sum.

A group of output channels keeps its sums for a few vectors of pixels in registers.  Each of its columns is a
distance in the input and a weight for each output channel: the pixels there are loaded once and multiplied by every
weight.  The same loop computes dense layers, whose columns are all there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from smartc.lowering.tvm_kernels.layout import Grid, Layout
from smartc.lowering.tvm_kernels.machine import Machine
from smartc.lowering.tvm_kernels.vector_math import Activation, splat

# Columns ahead for which pixels and weights are fetched into the first cache: the hardware cannot foresee where
# the next column's pixels lie.  Measured on AVX-512; 8 to 20 are alike.
PIXELS_AHEAD, WEIGHTS_AHEAD = 12, 32
# Bytes of an image's input that stay in the second cache while all output channels are computed; a larger input
# is taken in tiles of pixels of this size.
TILED_ABOVE, TILE = 2 << 20, 512 << 10


@dataclass(frozen=True)
class Convolution:
    """One call of the kernel.

    Attributes:
        name: Of the function, a C identifier.
        source: Where the input lies, shape (batch, channels, ...).
        target: Where the output goes, shape (batch, channels, height, width).
        grid: The output's grid; the input's rows have the same pitch.
        columns: Columns of the packed weight.
        groups: Groups of output channels.
        residual: Where the tensor lies that is added, or None.
        activation: Applied last, or None.
    """

    name: str
    source: Layout
    target: Layout
    grid: Grid
    columns: int
    groups: int
    residual: Layout | None
    activation: Activation | None

    @property
    def tiles(self) -> int:
        """Return into how many tiles of pixels an image is cut; each is computed for all output channels in turn."""
        size = self.source.shape[1] * self.source.strides[1] * 4
        return min(-(-size // TILE), self.grid.vectors // 6) if size > TILED_ABOVE else 1

    @property
    def steps(self) -> int:
        """Return the steps of the parallel loop: images, tiles and groups of output channels."""
        return self.target.shape[0] * self.tiles * self.groups

    @property
    def masked(self) -> bool:
        """Return whether vectors hold more than pixels, which must become zeros."""
        return not self.grid.full


def convolution_kernel(call: Convolution, machine: Machine) -> Any:
    """Return the function ``(x, values, offsets, row_ptr, bias, [mask], [residual], out)``.

    values: (columns * rows,).  offsets: (columns + PIXELS_AHEAD,), places in x for the output's first pixel.
    mask: (vectors * lanes,), above zero at pixels.  All buffers are flat.
    """
    kernel = _Kernel(call, machine)
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(call.name)
        T.func_attr({"tirx.noalias": True})
        kernel.declare()
        with T.parallel(0, call.steps) as index:
            kernel.clear_edges(index)
            tile = tirx.floormod(tirx.floordiv(index, call.groups), call.tiles)
            for first, count, vectors in chunks(call.grid.vectors, machine.vectors):
                start, end = (tirx.floordiv((tile + more) * count, call.tiles) for more in (0, 1))
                with T.serial(start, end) as chunk:
                    kernel.compute(index, chunk, (first, vectors))
    return builder.get()


def chunks(vectors: int, most: int) -> list[tuple[int, int, int]]:
    """Return first vector, number of chunks and vectors of each, all of nearly the same size."""
    chunks = -(-vectors // most)
    size, larger = divmod(vectors, chunks)
    parts = [(0, larger, size + 1), (larger * (size + 1), chunks - larger, size)]
    return [part for part in parts if part[1]]


class _Kernel:
    """The buffers of the function while it is built."""

    def __init__(self, call: Convolution, machine: Machine) -> None:
        self.call = call
        self.machine = machine
        self.lanes = machine.lanes

    def declare(self) -> None:
        """Declare the arguments."""
        call, rows = self.call, self.machine.rows
        self.x = T.arg("x", T.buffer((call.source.size,), "float32"))
        self.values = T.arg("values", T.buffer((max(call.columns, 1) * rows,), "float32"))
        self.offsets = T.arg("offsets", T.buffer((call.columns + PIXELS_AHEAD,), "int32"))
        self.row_ptr = T.arg("row_ptr", T.buffer((call.groups + 1,), "int32"))
        self.bias = T.arg("bias", T.buffer((call.groups * rows,), "float32"))
        if call.masked:
            self.mask = T.arg("mask", T.buffer((call.grid.vectors * self.lanes,), "float32"))
        if call.residual:
            self.residual = T.arg("residual", T.buffer((call.residual.size,), "float32"))
        self.out = T.arg("out", T.buffer((call.target.size,), "float32"))

    def clear_edges(self, index: Any) -> None:
        """Write the zeros before the first pixel and after the last."""
        grid, lanes = self.call.grid, self.lanes
        with T.sblock("edges"):
            place = T.axis.spatial(self.call.steps, index)
            for start, end in ((0, grid.lead), (grid.lead + grid.vectors * lanes, grid.length)):
                if start == end:
                    continue
                for row in range(self.machine.rows):

                    def clear(place: Any = place, row: int = row, start: int = start, end: int = end) -> None:
                        with T.serial(0, (end - start) // lanes) as step:
                            base = self._place(self.call.target, place, row) - grid.lead + start
                            T.buffer_store(self.out, splat(0.0, lanes), [T.Ramp(base + step * lanes, 1, lanes)])

                    self._if_row(place, row, clear)

    def compute(self, index: Any, chunk: Any, part: tuple[int, int]) -> None:
        """Compute one chunk of vectors of one group of output channels."""
        call, rows, lanes = self.call, self.machine.rows, self.lanes
        first, vectors = part
        with T.sblock(f"chunk_of_{vectors}"):
            place = T.axis.spatial(call.steps, index)
            step = T.axis.spatial(call.grid.vectors, chunk)
            base = (first + step * vectors) * lanes
            # One small buffer a row: LLVM keeps those in registers, a large one in memory.
            sums = [T.sblock_alloc_buffer((vectors * lanes,), "float32", scope="global") for _ in range(rows)]
            group = tirx.floormod(place, call.groups)
            for row in range(rows):
                for vector in range(vectors):
                    start = T.Broadcast(self.bias[group * rows + row], lanes)
                    T.buffer_store(sums[row], start, [T.Ramp(vector * lanes, 1, lanes)])
            with T.serial(self.row_ptr[group], self.row_ptr[group + 1]) as column:
                self._accumulate(sums, column, self._image(place) * call.source.strides[0] + base)
            for row in range(rows):
                self._if_row(place, row, lambda row=row: self._finish(sums[row], (place, row), base, vectors))

    def _accumulate(self, sums: list[Any], column: Any, base: Any) -> None:
        """Add one column of the weight."""
        rows, lanes = self.machine.rows, self.lanes
        vectors = int(sums[0].shape[0]) // lanes
        _prefetch(self.values, (column + WEIGHTS_AHEAD) * rows)
        for vector in range(vectors):
            _prefetch(self.x, self.offsets[column + PIXELS_AHEAD] + base + vector * lanes)
        for row in range(rows):
            weight = T.Broadcast(self.values[column * rows + row], lanes)
            for vector in range(vectors):
                here = T.Ramp(vector * lanes, 1, lanes)
                pixels = self.x[T.Ramp(self.offsets[column] + base + vector * lanes, 1, lanes)]
                T.buffer_store(sums[row], sums[row][here] + weight * pixels, [here])

    def _finish(self, total: Any, channel: tuple[Any, int], base: Any, vectors: int) -> None:
        """Add the residual, apply the activation and store one output channel's vectors."""
        call, lanes = self.call, self.lanes
        for vector in range(vectors):
            here = T.Ramp(vector * lanes, 1, lanes)
            if call.residual:
                place = self._place(call.residual, *channel) + base + vector * lanes
                T.buffer_store(total, total[here] + self.residual[T.Ramp(place, 1, lanes)], [here])
            value = call.activation.apply(total[here], lanes) if call.activation else total[here]
            if call.masked:
                pixel = self.mask[T.Ramp(base + vector * lanes, 1, lanes)] > splat(0.0, lanes)
                value = T.Select(pixel, value, splat(0.0, lanes))
            place = self._place(call.target, *channel) + base + vector * lanes
            T.buffer_store(self.out, value, [T.Ramp(place, 1, lanes)])

    def _image(self, place: Any) -> Any:
        """Return the image that a step of the parallel loop computes."""
        return tirx.floordiv(place, self.call.groups * self.call.tiles)

    def _place(self, layout: Layout, place: Any, row: int) -> Any:
        """Return where the first pixel of an output channel lies in a buffer."""
        channel = tirx.floormod(place, self.call.groups) * self.machine.rows + row
        return self._image(place) * layout.strides[0] + channel * layout.strides[1] + layout.offset

    def _if_row(self, place: Any, row: int, build: Any) -> None:
        """Build statements for a row of a group; in the last group it may not be there."""
        channels, rows = self.call.target.shape[1], self.machine.rows
        if channels % rows == 0:
            build()
            return
        with T.If(tirx.floormod(place, self.call.groups) * rows + row < channels), T.Then():
            build()


def _prefetch(buffer: Any, place: Any) -> None:
    """Fetch a line into the first cache; a place outside the buffer does nothing."""
    address = tirx.address_of(buffer[place])
    zero, near, data = (tirx.IntImm("int32", value) for value in (0, 3, 1))
    T.evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch", address, zero, near, data))
