"""The block-sparse convolution: pixels in the lanes of a vector, each non-zero column of the weight a shifted sum.

A group of output channels keeps its sums for a few vectors of pixels in registers.  Each of its columns is a
distance in the input and a weight for each output channel: the pixels there are loaded once and multiplied by every
weight.  Columns come in runs of a few that lie in the input as those of every other run do, so that one distance is
loaded for all of them.  The same loop computes dense layers, whose columns are all there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from smartc.kernels.inference.chunking import Chunks
from smartc.kernels.inference.convolution_call import WEIGHTS_AHEAD, Convolution
from smartc.kernels.inference.edges import inside
from smartc.kernels.inference.layout import Layout
from smartc.kernels.inference.map_writer import MapWriter
from smartc.kernels.inference.vector_memory import fenced, masked_load, prefetch
from smartc.kernels.machine import Machine

# Floats of a line of the caches.
_LINE = 16


def convolution_kernel(call: Convolution, machine: Machine) -> Any:
    """Return the function ``(x, values, offsets, row_ptr, bias, [tap, bits], [mask], [residual], out)``.

    values: (runs * steps * rows,).  offsets: (runs + ahead,), places in x for the output's first pixel.  row_ptr:
    first run of each group.  tap: each run's first one; bits: see ``edge_bits``.  mask: see ``mask_of``.  All buffers
    are flat.
    """
    kernel = _Kernel(call, machine)
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(call.name)
        T.func_attr({"tirx.noalias": True})
        kernel.declare()
        with T.parallel(0, call.tasks) as index:
            kernel.clear_edges(index)
            tile = tirx.floormod(tirx.floordiv(index, call.groups), call.tiles)
            for part in call.parts(machine):
                start, end = (tirx.floordiv((tile + more) * part.count, call.tiles) for more in (0, 1))
                with T.serial(start, end) as chunk:
                    kernel.compute_safely(index, chunk, part)
    return builder.get()


class _Kernel:
    """The buffers of the function while it is built."""

    def __init__(self, call: Convolution, machine: Machine) -> None:
        self.call = call
        self.machine = machine
        self.lanes = machine.lanes
        # Vectors and single pixels of the chunks before each part's.
        self.entries, before = {}, 0
        for part in call.parts(machine):
            self.entries[part.first] = before
            before += part.count * part.entries
        self.all_entries = before
        masked = call.masked(machine)
        covered = call.grid.vectors * machine.lanes if masked else call.grid.places
        self.writer = MapWriter(call.grid, call.target, covered, masked)

    def declare(self) -> None:
        """Declare the arguments."""
        call, rows = self.call, self.machine.rows
        self.x = T.arg("x", T.buffer((call.source.size,), "float32"))
        self.values = T.arg("values", T.buffer((max(call.runs, 1) * len(call.steps) * rows,), "float32"))
        self.offsets = T.arg("offsets", T.buffer((call.runs + call.ahead,), "int32"))
        self.row_ptr = T.arg("row_ptr", T.buffer((call.groups + 1,), "int32"))
        self.bias = T.arg("bias", T.buffer((call.groups * rows,), "float32"))
        if call.taps:
            self.tap = T.arg("tap", T.buffer((max(call.runs, 1),), "int32"))
            self.bits = T.arg("bits", T.buffer((self.all_entries * len(call.taps),), "uint16"))
        self.residual = self.writer.declare(call.residual)

    def clear_edges(self, index: Any) -> None:
        """Write the zeros before the first pixel and after the last."""
        with T.sblock("edges"):
            place = T.axis.spatial(self.call.tasks, index)
            for row in range(self.machine.rows):
                first = self._place(self.call.target, place, row)
                self._if_row(place, row, partial(self.writer.clear_around, first))

    def compute_safely(self, index: Any, chunk: Any, part: Chunks) -> None:
        """Compute one chunk of pixels; one that may read beyond the input's buffer loads the map's pixels alone."""
        call = self.call
        safe = inside(part, call.source, call.taps, self.lanes) if call.taps else range(part.count)
        if len(safe) in (0, part.count):
            self.compute(index, chunk, part, len(safe) > 0)
            return
        with T.If(tirx.all(chunk >= safe.start, chunk < safe.stop)):
            with T.Then():
                self.compute(index, chunk, part, True)
            with T.Else():
                self.compute(index, chunk, part, False)

    def compute(self, index: Any, chunk: Any, part: Chunks, safe: bool) -> None:
        """Compute one chunk of pixels of one group of output channels."""
        call, rows, lanes = self.call, self.machine.rows, self.lanes
        with T.sblock(f"chunk_from_{part.first}"):
            place = T.axis.spatial(call.tasks, index)
            step = T.axis.spatial(call.grid.vectors, chunk)
            base = part.first + step * part.step
            # One small buffer a row: LLVM keeps those in registers, a large one in memory.
            sums = [T.sblock_alloc_buffer((part.vectors * lanes,), "float32", scope="global") for _ in range(rows)]
            single = T.sblock_alloc_buffer((rows,), "float32", scope="global") if part.single is not None else None
            group = tirx.floormod(place, call.groups)
            for row in range(rows):
                for vector in range(part.vectors):
                    start = T.Broadcast(self.bias[group * rows + row], lanes)
                    T.buffer_store(sums[row], start, [T.Ramp(vector * lanes, 1, lanes)])
            if single is not None:
                T.buffer_store(single, self.bias[T.Ramp(group * rows, 1, rows)], [T.Ramp(0, 1, rows)])
            self._fetch_output(place, base, part)
            image = self._image(place) * call.source.strides[0]
            pixel = None if part.single is None else part.single + step * part.single_step
            entry = (self.entries[part.first] + step * part.entries) * len(call.taps)
            with T.serial(self.row_ptr[group], self.row_ptr[group + 1]) as run:
                places = [base + start for start in range(0, part.vectors * lanes, _LINE)]
                if pixel is not None or not call.aligned:
                    places.append(base + (part.vectors * lanes - 1) if pixel is None else pixel)
                masks: list[Any] = []
                for number in range(len(call.steps)):
                    self._fetch((run, number), [image + start for start in places])
                    if call.taps and (number == 0 or call.run_taps > 1):
                        masks = self._masks(run, number, entry, part)
                    self._accumulate(sums, (run, number), image + base, masks, safe)
                    if single is not None:
                        self._accumulate_single(single, (run, number), image + pixel, masks, safe)
            for row in range(rows):
                self._if_row(place, row, partial(self._finish, sums[row], (place, row), base))
            if single is not None:
                self._finish_single(single, place, pixel)

    def _fetch(self, column: tuple[Any, int], places: list[Any]) -> None:
        """Fetch the pixels that a column some way ahead reads."""
        (run, number), rows = column, self.machine.rows
        if number % max(_LINE // rows, 1) == 0:
            prefetch(self.values, ((run * len(self.call.steps) + number) + WEIGHTS_AHEAD) * rows)
        for place in places:
            prefetch(self.x, self.offsets[run + self.call.ahead] + self.call.steps[number] + place)

    def _fetch_output(self, place: Any, base: Any, part: Chunks) -> None:
        """Fetch the lines that will be written, and those of the residual, while the sums are computed."""
        call = self.call
        for row in range(self.machine.rows):
            for start in range(0, part.vectors * self.lanes, _LINE):
                if call.residual:
                    prefetch(self.residual, self._place(call.residual, place, row) + base + start)
                prefetch(self.writer.out, self._place(call.target, place, row) + self.writer.number(base) + start, 1)

    def _masks(self, run: Any, number: int, entry: Any, part: Chunks) -> list[Any]:
        """Return a mask for each vector of a chunk, then for its single pixel: lanes that read pixels of the map."""
        lanes, rows = self.lanes, self.machine.rows
        first = entry + self.tap[run] + number % self.call.run_taps
        each = tirx.shift_left(T.Broadcast(tirx.IntImm("int32", 1), lanes), T.Ramp(0, 1, lanes))
        masks = []
        for vector in range(part.entries):
            word = tirx.Cast("int32", self.bits[first + vector * len(self.call.taps)])
            whole = vector < part.vectors
            bits = tirx.bitwise_and(T.Broadcast(word, lanes), each) if whole else T.Broadcast(word, rows)
            zeros = T.Broadcast(tirx.IntImm("int32", 0), lanes if whole else rows)
            masks.append(tirx.NE(bits, zeros))
        return masks

    def _accumulate(self, sums: list[Any], column: tuple[Any, int], base: Any, masks: list[Any], safe: bool) -> None:
        """Add one column of the weight."""
        (run, number), rows, lanes = column, self.machine.rows, self.lanes
        vectors = int(sums[0].shape[0]) // lanes
        weights = (run * len(self.call.steps) + number) * rows
        pixels, step = self.offsets[run] + base, self.call.steps[number]
        read = [pixels + (step + vector * lanes) for vector in range(vectors)]
        if safe or not masks:
            loaded = [self.x[T.Ramp(start, 1, lanes)] for start in read]
        else:
            loaded = [T.bind(masked_load(self.x, start, mask, lanes)) for start, mask in zip(read, masks, strict=False)]
        for row in range(rows):
            weight = T.Broadcast(self.values[weights + row], lanes)
            for vector in range(vectors):
                here = T.Ramp(vector * lanes, 1, lanes)
                total = sums[row][here] + weight * loaded[vector]
                if masks:
                    total = fenced(T.Select(masks[vector], total, sums[row][here]) if safe else total, lanes)
                T.buffer_store(sums[row], total, [here])

    def _accumulate_single(self, total: Any, column: tuple[Any, int], place: Any, masks: list[Any], safe: bool) -> None:
        """Add one column of the weight for the pixel whose output channels lie in the lanes."""
        (run, number), rows = column, self.machine.rows
        weights = self.values[T.Ramp((run * len(self.call.steps) + number) * rows, 1, rows)]
        here, start = T.Ramp(0, 1, rows), self.offsets[run] + place + self.call.steps[number]
        if not safe:
            start = tirx.max(tirx.min(start, self.call.source.size - 1), 0)
        value = total[here] + weights * T.Broadcast(self.x[start], rows)
        T.buffer_store(total, fenced(T.Select(masks[-1], value, total[here]), rows) if masks else value, [here])

    def _finish(self, total: Any, channel: tuple[Any, int], base: Any) -> None:
        """Add the residual, apply the activation and store one output channel's vectors."""
        call, lanes = self.call, self.lanes
        for start in range(0, int(total.shape[0]), lanes):
            here = T.Ramp(start, 1, lanes)
            if call.residual:
                place = self._place(call.residual, *channel) + base + start
                T.buffer_store(total, total[here] + self.residual[T.Ramp(place, 1, lanes)], [here])
            value = call.activation.apply(total[here], lanes) if call.activation else total[here]
            self.writer.store_vector(value, self._place(call.target, *channel), base + start)

    def _finish_single(self, total: Any, place: Any, pixel: Any) -> None:
        """Do the same for the pixel whose output channels lie in the lanes."""
        call, rows = self.call, self.machine.rows
        if call.residual:
            for row in range(rows):
                self._if_row(place, row, partial(self._add_residual, call.residual, total, (place, row), pixel))
        if call.activation:
            here = T.Ramp(0, 1, rows)
            T.buffer_store(total, call.activation.apply(total[here], rows), [here])
        for row in range(rows):
            first = self._place(call.target, place, row)
            self._if_row(place, row, partial(self._store_single, total, row, first, pixel))

    def _add_residual(self, residual: Layout, total: Any, channel: tuple[Any, int], pixel: Any) -> None:
        """Add the residual of one output channel's single pixel."""
        here = self._place(residual, *channel) + pixel
        T.buffer_store(total, total[channel[1]] + self.residual[here], [channel[1]])

    def _store_single(self, total: Any, row: int, first: Any, pixel: Any) -> None:
        """Store the single pixel of one output channel."""
        self.writer.store_pixel(total[row], first, pixel)

    def _image(self, place: Any) -> Any:
        """Return the image that a step of the parallel loop computes."""
        return tirx.floordiv(place, self.call.groups * self.call.tiles)

    def _place(self, layout: Layout, place: Any, row: int) -> Any:
        """Return where the first pixel of an output channel lies in a buffer."""
        channel = tirx.floormod(place, self.call.groups) * self.machine.rows + row
        return self._image(place) * layout.strides[0] + channel * layout.strides[1] + layout.offset

    def _if_row(self, place: Any, row: int, build: Callable[[], None]) -> None:
        """Build statements for a row of a group; in the last group it may not be there."""
        channels, rows = self.call.target.shape[1], self.machine.rows
        if channels % rows == 0:
            build()
            return
        with T.If(tirx.floormod(place, self.call.groups) * rows + row < channels), T.Then():
            build()
