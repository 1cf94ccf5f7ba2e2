"""Attention and layer norm on tokens in runs: queries and tokens in the lanes, no tensor is ever transposed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from smartc.kernels.inference.chunking import chunks
from smartc.kernels.inference.layout import Layout, rounded
from smartc.kernels.machine import Machine
from smartc.kernels.vector_math import exponential, splat


@dataclass(frozen=True)
class Attention:
    """One call of the kernel; all layouts have shape (images, heads, tokens, channels).

    Attributes:
        name: Of the function, a C identifier.
        query: Where queries lie, tokens in runs of whole vectors.
        key, value: Where keys and values lie, anyhow.
        target: Where the output goes, tokens in runs of whole vectors.
        mask: Where the mask that is added lies, shape (images, heads, queries, keys), queries in runs of whole
            vectors; None where there is none.
        scale: Of the products.
    """

    name: str
    query: Layout
    key: Layout
    value: Layout
    target: Layout
    mask: Layout | None
    scale: float


def attention_kernel(call: Attention, machine: Machine) -> Any:
    """Return the function ``(query, key, value, [mask], out)`` on flat buffers."""
    kernel = _Kernel(call, machine)
    images, heads, tokens, _ = call.query.shape
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(call.name)
        T.func_attr({"tirx.noalias": True})
        kernel.declare()
        with T.parallel(0, images * heads) as index:
            for first, count, vectors in chunks(-(-tokens // machine.lanes), machine.vectors):
                with T.serial(0, count) as chunk:
                    kernel.compute(index, chunk, (first, vectors))
    return builder.get()


class _Kernel:
    """The buffers of the function while it is built."""

    def __init__(self, call: Attention, machine: Machine) -> None:
        self.call = call
        self.lanes = machine.lanes
        self.rows = machine.rows
        self.keys, self.channels = call.value.shape[2:]

    def declare(self) -> None:
        """Declare the arguments."""
        call = self.call
        self.query, self.key, self.value = (
            T.arg(name, T.buffer((layout.size,), "float32"))
            for name, layout in (("query", call.query), ("key", call.key), ("value", call.value))
        )
        if call.mask:
            self.mask = T.arg("mask", T.buffer((call.mask.size,), "float32"))
        self.out = T.arg("out", T.buffer((call.target.size,), "float32"))

    def compute(self, index: Any, chunk: Any, part: tuple[int, int]) -> None:
        """Compute one chunk of queries of one head."""
        call, (first, vectors) = self.call, part
        images, heads = call.query.shape[:2]
        with T.sblock(f"queries_{vectors}"):
            place = T.axis.spatial(images * heads, index)
            step = T.axis.spatial(call.query.shape[2], chunk)
            base = (first + step * vectors) * self.lanes
            width = vectors * self.lanes
            scores = T.sblock_alloc_buffer((rounded(self.keys, self.rows) * width,), "float32", scope="global")
            with T.serial(0, -(-self.keys // self.rows)) as group:
                self._scores(scores, place, base, (group * self.rows, vectors))
            totals = self._softmax(scores, vectors)
            with T.serial(0, -(-self.channels // self.rows)) as group:
                self._mix(scores, totals, (place, base), (group * self.rows, vectors))

    def _scores(self, scores: Any, place: Any, base: Any, part: tuple[Any, int]) -> None:
        """Compute the products of some keys with the queries."""
        first, vectors = part
        width = vectors * self.lanes
        sums = self._sums(vectors)
        with T.serial(0, self.call.query.shape[3]) as channel:
            at_query = self._at(self.call.query, place) + channel * self.call.query.strides[3] + base
            at_key = self._at(self.call.key, place) + channel * self.call.key.strides[3]
            for row in range(self.rows):
                number = tirx.min(first + row, self.keys - 1)
                weight = T.Broadcast(self.key[at_key + number * self.call.key.strides[2]], self.lanes)
                for vector in range(vectors):
                    here = T.Ramp(vector * self.lanes, 1, self.lanes)
                    query = self.query[T.Ramp(at_query + vector * self.lanes, 1, self.lanes)]
                    T.buffer_store(sums[row], sums[row][here] + weight * query, [here])
        for row in range(self.rows):
            for vector in range(vectors):
                value = sums[row][T.Ramp(vector * self.lanes, 1, self.lanes)] * splat(self.call.scale, self.lanes)
                if self.call.mask:
                    number = tirx.min(first + row, self.keys - 1) * self.call.mask.strides[3]
                    at_mask = self._at(self.call.mask, place) + number + base + vector * self.lanes
                    value = value + self.mask[T.Ramp(at_mask, 1, self.lanes)]
                T.buffer_store(scores, value, [T.Ramp((first + row) * width + vector * self.lanes, 1, self.lanes)])

    def _softmax(self, scores: Any, vectors: int) -> Any:
        """Turn the scores into exponentials, less the largest, and return one over their sums."""
        lanes, width = self.lanes, vectors * self.lanes
        largest, totals = (T.sblock_alloc_buffer((width,), "float32", scope="global") for _ in range(2))
        heres = [T.Ramp(vector * lanes, 1, lanes) for vector in range(vectors)]
        for number, here in enumerate(heres):
            T.buffer_store(largest, scores[T.Ramp(number * lanes, 1, lanes)], [here])
            T.buffer_store(totals, splat(0.0, lanes), [here])
        with T.serial(0, self.keys) as key:
            for number, here in enumerate(heres):
                score = scores[T.Ramp(key * width + number * lanes, 1, lanes)]
                T.buffer_store(largest, tirx.max(largest[here], score), [here])
        with T.serial(0, self.keys) as key:
            for number, here in enumerate(heres):
                there = T.Ramp(key * width + number * lanes, 1, lanes)
                T.buffer_store(scores, exponential(scores[there] - largest[here], lanes), [there])
                T.buffer_store(totals, totals[here] + scores[there], [here])
        for here in heres:
            T.buffer_store(totals, splat(1.0, lanes) / totals[here], [here])
        return totals

    def _mix(self, scores: Any, totals: Any, origin: tuple[Any, Any], part: tuple[Any, int]) -> None:
        """Compute some channels of the output."""
        (place, base), (first, vectors) = origin, part
        lanes, width = self.lanes, vectors * self.lanes
        sums = self._sums(vectors)
        with T.serial(0, self.keys) as key:
            at_value = self._at(self.call.value, place) + key * self.call.value.strides[2]
            for row in range(self.rows):
                number = tirx.min(first + row, self.channels - 1)
                weight = T.Broadcast(self.value[at_value + number * self.call.value.strides[3]], lanes)
                for vector in range(vectors):
                    here = T.Ramp(vector * lanes, 1, lanes)
                    score = scores[T.Ramp(key * width + vector * lanes, 1, lanes)]
                    T.buffer_store(sums[row], sums[row][here] + weight * score, [here])
        for row in range(self.rows):
            # The rows beyond the last channel repeat it, so that they may be stored in its place.
            number = tirx.min(first + row, self.channels - 1)
            at_out = self._at(self.call.target, place) + number * self.call.target.strides[3] + base
            for vector in range(vectors):
                here = T.Ramp(vector * lanes, 1, lanes)
                T.buffer_store(self.out, sums[row][here] * totals[here], [T.Ramp(at_out + vector * lanes, 1, lanes)])

    def _sums(self, vectors: int) -> list[Any]:
        """Return buffers for a row each, holding zeros."""
        sums = [T.sblock_alloc_buffer((vectors * self.lanes,), "float32", scope="global") for _ in range(self.rows)]
        for total in sums:
            for vector in range(vectors):
                T.buffer_store(total, splat(0.0, self.lanes), [T.Ramp(vector * self.lanes, 1, self.lanes)])
        return sums

    def _at(self, layout: Layout, place: Any) -> Any:
        """Return where a head's first element lies."""
        image, head = tirx.floordiv(place, layout.shape[1]), tirx.floormod(place, layout.shape[1])
        return image * layout.strides[0] + head * layout.strides[1] + layout.offset


# Vectors of tokens that a layer norm computes together.
_TOGETHER = 2


def layer_norm_kernel(name: str, layout: Layout, lanes: int, eps: float) -> Any:
    """Return the function ``(x, weight, bias, out)`` that normalises the channels of each token.

    x: a map (images, channels, 1, tokens).  out: the same in runs of whole vectors.  weight, bias: (channels,).
    """
    images, channels, _, tokens = layout.shape
    length = rounded(tokens, lanes)
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(name)
        T.func_attr({"tirx.noalias": True})
        x = T.arg("x", T.buffer((layout.size,), "float32"))
        weight, bias = (T.arg(part, T.buffer((channels,), "float32")) for part in ("weight", "bias"))
        out = T.arg("out", T.buffer((images * channels * length,), "float32"))
        for first, count, vectors in chunks(length // lanes, _TOGETHER):
            with T.parallel(0, images * count) as index, T.sblock(f"tokens_{vectors}"):
                place = T.axis.spatial(images * count, index)
                image, step = tirx.floordiv(place, count), tirx.floormod(place, count)
                base = (first + step * vectors) * lanes
                read = image * layout.strides[0] + layout.offset + base
                write = image * channels * length + base
                places = (read, layout.strides[1]), (write, length)
                _normalise((x, weight, bias, out), places, (channels, vectors, lanes), eps)
    return builder.get()


def _normalise(buffers: Any, places: Any, sizes: tuple[int, int, int], eps: float) -> None:
    """Normalise some vectors of tokens."""
    x, weight, bias, out = buffers
    (read, read_step), (write, write_step) = places
    channels, vectors, lanes = sizes
    means, squares = (
        [T.sblock_alloc_buffer((lanes,), "float32", scope="global") for _ in range(vectors)] for _ in range(2)
    )
    here = T.Ramp(0, 1, lanes)

    def load(channel: Any, vector: int) -> Any:
        return x[T.Ramp(read + channel * read_step + vector * lanes, 1, lanes)]

    for total in (*means, *squares):
        T.buffer_store(total, splat(0.0, lanes), [here])
    with T.serial(0, channels) as channel:
        for vector, total in enumerate(means):
            T.buffer_store(total, total[here] + load(channel, vector), [here])
    for total in means:
        T.buffer_store(total, total[here] * splat(1 / channels, lanes), [here])
    with T.serial(0, channels) as channel:
        for vector, total in enumerate(squares):
            rest = load(channel, vector) - means[vector][here]
            T.buffer_store(total, total[here] + rest * rest, [here])
    for total in squares:
        deviation = tirx.sqrt(total[here] * splat(1 / channels, lanes) + splat(eps, lanes))
        T.buffer_store(total, splat(1.0, lanes) / deviation, [here])
    with T.serial(0, channels) as channel:
        for vector in range(vectors):
            value = (load(channel, vector) - means[vector][here]) * squares[vector][here]
            value = value * T.Broadcast(weight[channel], lanes) + T.Broadcast(bias[channel], lanes)
            T.buffer_store(out, value, [T.Ramp(write + channel * write_step + vector * lanes, 1, lanes)])
