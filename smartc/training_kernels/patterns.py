"""A weight times the mask of its single elements, which lies tap by tap, and the gradients of their product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from smartc.training_kernels.compiled import compiled


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
    found, room, both = torch.empty_like(mask), weight.new_ones(into * taps), weight.new_empty(into * taps)
    flat = (tensor.view(out, -1) for tensor in (gradient, weight, product))
    compiled(gradients_of_pattern, taps)(*flat, mask, found, room, both)
    return found


def product_of_pattern(lanes: int, taps: int) -> Any:
    """Return the function ``(weight, mask, product, room)``; room takes the mask of an output channel, in order."""
    from tvm.script.ir_builder import IRBuilder
    from tvm.tirx.script.builder import ir as T

    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_attr({"tirx.noalias": True})
        out, length, covered = (T.int64() for _ in range(3))
        weight = T.arg("weight", T.buffer((out, length), "float32"))
        mask = T.arg("mask", T.buffer((out, taps, covered), "float32"))
        product = T.arg("product", T.buffer((out, length), "float32"))
        room = T.arg("room", T.buffer((length,), "float32"))

        with T.serial(0, out) as channel:
            with T.grid(covered, taps) as (into, tap):
                T.buffer_store(room, mask[channel, tap, into], [into * taps + tap])
            _along(
                T,
                length,
                lanes,
                lambda at: T.buffer_store(product, weight[channel, at] * room[at], [channel, at]),
            )
    return builder.get()


def gradients_of_pattern(lanes: int, taps: int) -> Any:
    """Return the function ``(gradient, weight, product, mask, found, room, both)``; rooms as above."""
    from tvm.script.ir_builder import IRBuilder
    from tvm.tirx.script.builder import ir as T

    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_attr({"tirx.noalias": True})
        out, length, covered = (T.int64() for _ in range(3))
        names = ("gradient", "weight", "product")
        gradient, weight, product = (T.arg(name, T.buffer((out, length), "float32")) for name in names)
        mask, found = (T.arg(name, T.buffer((out, taps, covered), "float32")) for name in ("mask", "found"))
        room, both = (T.arg(name, T.buffer((length,), "float32")) for name in ("room", "both"))

        with T.serial(0, out) as channel:
            with T.grid(covered, taps) as (into, tap):
                T.buffer_store(room, mask[channel, tap, into], [into * taps + tap])

            def multiply(at: Any) -> None:
                """Multiply by both."""
                # Read once: the product may be in its place.
                incoming = T.bind(gradient[channel, at])
                T.buffer_store(both, incoming * weight[channel, at], [at])
                T.buffer_store(product, incoming * room[at], [channel, at])

            _along(T, length, lanes, multiply)
            with T.grid(covered, taps) as (into, tap):
                T.buffer_store(found, both[into * taps + tap], [channel, tap, into])
    return builder.get()


def _along(T: Any, length: Any, lanes: int, compute: Callable[[Any], None]) -> None:
    """Compute a vector at a time, and what is left one by one."""
    from tvm import tirx

    whole = tirx.floordiv(length, lanes)
    with T.serial(0, whole) as vector:
        compute(T.Ramp(vector * lanes, 1, lanes))
    with T.serial(0, length - whole * lanes) as rest:
        compute(whole * lanes + rest)
