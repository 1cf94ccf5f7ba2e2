"""Functions of single elements on whole buffers, alone or with another tensor, and the means of channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from smartc.kernels.inference.layout import Grid, Layout
from smartc.kernels.vector_math import Activation, splat

# Vectors that one step of a parallel loop computes.
_STEP = 64


@dataclass(frozen=True)
class Pointwise:
    """One call of the kernel: ``activation(x * scale + shift  operator  other)``.

    Attributes:
        name: Of the function, a C identifier.
        size: Elements of x and out, and of the other tensor.
        operator: ``add``, ``sub``, ``mul``, ``div`` or None where there is no other tensor.
        scale, shift: Applied to x first.
        activation: Applied last, or None.
    """

    name: str
    size: int
    operator: str | None
    scale: float = 1.0
    shift: float = 0.0
    activation: Activation | None = None

    def value(self, x: Any, other: Any, lanes: int) -> Any:
        """Return the function of vectors."""
        x = x if self.scale == 1 else x * splat(self.scale, lanes)
        x = x if self.shift == 0 else x + splat(self.shift, lanes)
        x = x if self.operator is None else _OPERATORS[self.operator](x, other)
        return self.activation.apply(x, lanes) if self.activation else x


_OPERATORS: dict[str, Any] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
}


def pointwise_kernel(call: Pointwise, lanes: int) -> Any:
    """Return the function ``(x, [other], out)`` on flat buffers of one size."""
    step = _STEP * lanes
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(call.name)
        T.func_attr({"tirx.noalias": True})
        x = T.arg("x", T.buffer((call.size,), "float32"))
        other = T.arg("other", T.buffer((call.size,), "float32")) if call.operator else x
        out = T.arg("out", T.buffer((call.size,), "float32"))

        def compute(place: Any, width: int) -> None:
            here = T.Ramp(place, 1, width) if width > 1 else place
            T.buffer_store(out, call.value(x[here], other[here], width), [here])

        if call.size >= step:
            with T.parallel(0, call.size // step) as outer, T.serial(0, _STEP) as inner, T.sblock("vector"):
                compute(outer * step + inner * lanes, lanes)
        rest = call.size % step
        if rest >= lanes:
            with T.serial(0, rest // lanes) as inner, T.sblock("last_vectors"):
                compute(call.size - rest + inner * lanes, lanes)
        if rest % lanes:
            with T.serial(0, rest % lanes) as inner, T.sblock("last_elements"):
                compute(call.size - rest % lanes + inner, 1)
    return builder.get()


def channel_kernel(call: Pointwise, x_layout: Layout, other_layout: Layout, lanes: int) -> Any:
    """Return the function ``(x, other, out)``: the other tensor has one number for each image and channel.

    x and out share a layout in which channels are runs of whole vectors; other has shape (images, channels, 1, 1),
    with stride 0 where it repeats.
    """
    images, channels = x_layout.shape[:2]
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(call.name)
        T.func_attr({"tirx.noalias": True})
        x = T.arg("x", T.buffer((x_layout.size,), "float32"))
        other = T.arg("other", T.buffer((other_layout.size,), "float32"))
        out = T.arg("out", T.buffer((x_layout.size,), "float32"))
        with T.parallel(0, images * channels) as index, T.sblock("channel"):
            place = T.axis.spatial(images * channels, index)
            image, channel = tirx.floordiv(place, channels), tirx.floormod(place, channels)
            number = image * other_layout.strides[0] + channel * other_layout.strides[1] + other_layout.offset
            with T.serial(0, x_layout.strides[1] // lanes) as step:
                here = T.Ramp(place * x_layout.strides[1] + (x_layout.slack + step * lanes), 1, lanes)
                T.buffer_store(out, call.value(x[here], T.Broadcast(other[number], lanes), lanes), [here])
    return builder.get()


def mean_kernel(name: str, source: Layout, grid: Grid) -> Any:
    """Return the function ``(x, out)`` that takes the mean of each channel, out of shape (images * channels,).

    All that is no pixel must be zero in x.
    """
    images, channels = source.shape[:2]
    lanes = grid.lanes
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(name)
        T.func_attr({"tirx.noalias": True})
        x = T.arg("x", T.buffer((source.size,), "float32"))
        out = T.arg("out", T.buffer((images * channels,), "float32"))
        with T.parallel(0, images * channels) as index, T.sblock("channel"):
            place = T.axis.spatial(images * channels, index)
            sums = T.sblock_alloc_buffer((lanes,), "float32", scope="global")
            image, channel = tirx.floordiv(place, channels), tirx.floormod(place, channels)
            start = image * source.strides[0] + channel * source.strides[1] + source.offset
            T.buffer_store(sums, splat(0.0, lanes), [T.Ramp(0, 1, lanes)])
            with T.serial(0, grid.vectors) as step:
                vector = x[T.Ramp(start + step * lanes, 1, lanes)]
                T.buffer_store(sums, sums[T.Ramp(0, 1, lanes)] + vector, [T.Ramp(0, 1, lanes)])
            width = lanes // 2
            while width:
                low, high = (T.Ramp(first, 1, width) if width > 1 else first for first in (0, width))
                T.buffer_store(sums, sums[low] + sums[high], [low])
                width //= 2
            scale = tirx.FloatImm("float32", 1 / (grid.height * grid.width))
            T.buffer_store(out, sums[0] * scale, [place])
    return builder.get()
