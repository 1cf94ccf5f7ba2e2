"""Depthwise convolution and pooling: each output channel is a sum or a maximum of shifts of one input channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from smartc.kernels.inference.layout import Grid, Layout
from smartc.kernels.inference.map_writer import MapWriter
from smartc.kernels.machine import Machine
from smartc.kernels.vector_math import Activation

# Vectors of pixels that are summed together: enough chains to fill the multipliers, few enough for 16 registers.
VECTORS = 8


@dataclass(frozen=True)
class Window:
    """One call of the kernel.

    Attributes:
        name: Of the function, a C identifier.
        kind: ``depthwise``, ``max`` or ``sum``; a sum is scaled by the mask.
        source: Where the input lies, shape (batch, channels, ...).
        target: Where the output goes.
        grid: The output's grid; the input's rows have the same pitch.
        taps: Distance in the input of each tap from the output pixel, ``source.offset`` not counted.
        residual: Where the tensor lies that is added, or None.
        activation: Applied last, or None.
    """

    name: str
    kind: str
    source: Layout
    target: Layout
    grid: Grid
    taps: tuple[int, ...]
    residual: Layout | None = None
    activation: Activation | None = None

    @property
    def masked(self) -> bool:
        """Return whether the kernel takes a mask."""
        return not self.grid.full or self.kind == "sum"


def window_kernel(call: Window, machine: Machine) -> Any:
    """Return the function ``(x, [values, bias], [mask], [residual], out)``.

    values: (channels * taps,).  bias: (channels,).  mask: see ``mask_of``; a sum is multiplied
    by it.  All buffers are flat.
    """
    kernel = _Kernel(call, machine.lanes)
    channels = call.target.shape[0] * call.target.shape[1]
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(call.name)
        T.func_attr({"tirx.noalias": True})
        kernel.declare()
        with T.parallel(0, channels) as index:
            kernel.clear_edges(index)
            full, rest = divmod(call.grid.vectors, VECTORS)
            if full:
                with T.serial(0, full) as chunk:
                    kernel.compute(index, chunk, 0, VECTORS)
            if rest:
                with T.serial(0, 1) as chunk:
                    kernel.compute(index, chunk, full * VECTORS, rest)
    return builder.get()


class _Kernel:
    """The buffers of the function while it is built."""

    def __init__(self, call: Window, lanes: int) -> None:
        self.call = call
        self.lanes = lanes
        self.channels = call.target.shape[1]
        self.writer = MapWriter(call.grid, call.target, call.grid.vectors * lanes, call.masked)

    def declare(self) -> None:
        """Declare the arguments."""
        call = self.call
        self.x = T.arg("x", T.buffer((call.source.size,), "float32"))
        if call.kind == "depthwise":
            self.values = T.arg("values", T.buffer((self.channels * len(call.taps),), "float32"))
            self.bias = T.arg("bias", T.buffer((self.channels,), "float32"))
        self.residual = self.writer.declare(call.residual)

    def clear_edges(self, index: Any) -> None:
        """Write the zeros before the first pixel and after the last."""
        with T.sblock("edges"):
            place = T.axis.spatial(self.call.target.shape[0] * self.channels, index)
            self.writer.clear_around(self._place(self.call.target, place))

    def compute(self, index: Any, chunk: Any, first: int, vectors: int) -> None:
        """Compute some vectors of one channel."""
        lanes = self.lanes
        with T.sblock(f"chunk_of_{vectors}"):
            place = T.axis.spatial(self.call.target.shape[0] * self.channels, index)
            step = T.axis.spatial(max(self.call.grid.vectors // VECTORS, 1), chunk)
            base = (first + step * vectors) * lanes
            sums = [T.sblock_alloc_buffer((lanes,), "float32", scope="global") for _ in range(vectors)]
            here = T.Ramp(0, 1, lanes)
            for number in range(len(self.call.taps)):
                for vector in range(vectors):
                    value = self._with_tap(sums[vector], place, number, base + vector * lanes)
                    T.buffer_store(sums[vector], value, [here])
            for vector in range(vectors):
                self._finish(sums[vector], place, base + vector * lanes)

    def _with_tap(self, total: Any, place: Any, number: int, start: Any) -> Any:
        """Return the sum or maximum with one more tap; the first one begins it."""
        call, lanes = self.call, self.lanes
        here = T.Ramp(0, 1, lanes)
        pixels = self.x[T.Ramp(self._source(place) + call.taps[number] + start, 1, lanes)]
        if call.kind == "depthwise":
            channel = tirx.floormod(place, self.channels)
            weight = T.Broadcast(self.values[channel * len(call.taps) + number], lanes)
            before = total[here] if number else T.Broadcast(self.bias[channel], lanes)
            return before + weight * pixels
        if number == 0:
            return pixels
        return tirx.max(total[here], pixels) if call.kind == "max" else total[here] + pixels

    def _finish(self, total: Any, place: Any, start: Any) -> None:
        """Add the residual, apply the activation and store a vector."""
        call, lanes = self.call, self.lanes
        here = T.Ramp(0, 1, lanes)
        if call.residual:
            position = T.Ramp(self._place(call.residual, place) + start, 1, lanes)
            T.buffer_store(total, total[here] + self.residual[position], [here])
        value = total[here]
        if call.kind == "sum":
            value = value * self.writer.mask[T.Ramp(start, 1, lanes)]
        value = call.activation.apply(value, lanes) if call.activation else value
        self.writer.store_vector(value, self._place(call.target, place), start)

    def _source(self, place: Any) -> Any:
        """Return where the first pixel of the input channel lies that an output channel reads."""
        source = self.call.source
        image = tirx.floordiv(place, self.channels)
        channel = tirx.floordiv(tirx.floormod(place, self.channels), self.channels // source.shape[1])
        return image * source.strides[0] + channel * source.strides[1] + source.offset

    def _place(self, layout: Layout, place: Any) -> Any:
        """Return where the first pixel of an output channel lies in a buffer."""
        image, channel = tirx.floordiv(place, self.channels), tirx.floormod(place, self.channels)
        return image * layout.strides[0] + channel * layout.strides[1] + layout.offset
