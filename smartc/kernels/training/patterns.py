"""A weight times the mask of its single elements, which lies tap by tap, and the gradients of their product."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from smartc.kernels.training.compiled import compiled


def pattern_product(weight: torch.Tensor, mask: torch.Tensor, product: torch.Tensor) -> None:
    """Write weight x mask.

    Args:
        weight: Shape (out, in, taps), float32, contiguous, on the CPU; so are all others.
        mask: Shape (out, taps, covered); input channels beyond those covered stay.
        product: The shape of the weight.
    """
    out, into, taps = weight.shape
    compiled(product_of_pattern, taps)(weight.view(out, -1), mask, product.view(out, -1), weight.new_ones(into * taps))


def pattern_gradients(
    gradient: torch.Tensor, weight: torch.Tensor, mask: torch.Tensor, product: torch.Tensor
) -> torch.Tensor:
    """Return the mask's gradient, gradient x weight, and write the weight's, gradient x mask.

    Args:
        gradient: Shape (out, in, taps), as above.
        weight: The same shape.
        mask: Shape (out, taps, covered).
        product: The shape of the gradient; may be the gradient itself.
    """
    out, into, taps = weight.shape
    found, scratch, both = torch.empty_like(mask), weight.new_ones(into * taps), weight.new_empty(into * taps)
    flat = (tensor.view(out, -1) for tensor in (gradient, weight, product))
    compiled(gradients_of_pattern, taps)(*flat, mask, found, scratch, both)
    return found


def product_of_pattern(lanes: int, taps: int) -> Any:
    """Return the function ``(weight, mask, product, scratch)``; scratch holds the mask of one output channel."""
    from tvm.script.ir_builder import IRBuilder
    from tvm.tirx.script.builder import ir as T

    from smartc.kernels.training.vectors import for_vectors, places

    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_attr({"tirx.noalias": True})
        out, length, covered = (T.int64() for _ in range(3))
        weight = T.arg("weight", T.buffer((out, length), "float32"))
        mask = T.arg("mask", T.buffer((out, taps, covered), "float32"))
        product = T.arg("product", T.buffer((out, length), "float32"))
        scratch = T.arg("scratch", T.buffer((length,), "float32"))

        def multiply(channel: Any, first: Any, width: int) -> None:
            """Multiply a vector."""
            at = places(first, width)
            T.buffer_store(product, weight[channel, at] * scratch[at], [channel, at])

        with T.serial(0, out) as channel:
            with T.grid(covered, taps) as (into, tap):
                T.buffer_store(scratch, mask[channel, tap, into], [into * taps + tap])
            for_vectors(length, lanes, partial(multiply, channel))
    return builder.get()


def gradients_of_pattern(lanes: int, taps: int) -> Any:
    """Return the function ``(gradient, weight, product, mask, found, scratch, both)``; scratch as above."""
    from tvm.script.ir_builder import IRBuilder
    from tvm.tirx.script.builder import ir as T

    from smartc.kernels.training.vectors import for_vectors, places

    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_attr({"tirx.noalias": True})
        out, length, covered = (T.int64() for _ in range(3))
        names = ("gradient", "weight", "product")
        gradient, weight, product = (T.arg(name, T.buffer((out, length), "float32")) for name in names)
        mask, found = (T.arg(name, T.buffer((out, taps, covered), "float32")) for name in ("mask", "found"))
        scratch, both = (T.arg(name, T.buffer((length,), "float32")) for name in ("scratch", "both"))

        def multiply(channel: Any, first: Any, width: int) -> None:
            """Multiply a vector by both."""
            at = places(first, width)
            # Read once: the product may be in its place.
            incoming = T.bind(gradient[channel, at])
            T.buffer_store(both, incoming * weight[channel, at], [at])
            T.buffer_store(product, incoming * scratch[at], [channel, at])

        with T.serial(0, out) as channel:
            with T.grid(covered, taps) as (into, tap):
                T.buffer_store(scratch, mask[channel, tap, into], [into * taps + tap])

            for_vectors(length, lanes, partial(multiply, channel))
            with T.grid(covered, taps) as (into, tap):
                T.buffer_store(found, both[into * taps + tap], [channel, tap, into])
    return builder.get()
