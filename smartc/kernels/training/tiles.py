"""The gradients of a weight times the mask of its tiles, in one pass over memory."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from smartc.kernels.training.compiled import compiled


def tile_gradients(
    gradient: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, product: torch.Tensor
) -> torch.Tensor:
    """Return the sums over tiles of gradient x weight, shape (runs, across, taps), and write gradient x scale.

    Args:
        gradient: Shape (runs, rows, across * columns * taps), float32, contiguous, on the CPU; so are all others.
        weight: The same shape.
        scale: Shape (runs, across, columns, taps).
        product: The shape of the gradient; may be the gradient itself.
    """
    runs, across, columns, taps = scale.shape
    sums, scratch = scale.new_empty(runs, across, taps), scale.new_empty(across * columns * taps)
    compiled(gradients_of_tiles)(gradient, weight, scale, product, scratch, sums)
    return sums


def gradients_of_tiles(lanes: int) -> Any:
    """Return the function ``(gradient, weight, scale, product, scratch, sums)``; scratch sums a row of tiles."""
    from tvm.script.ir_builder import IRBuilder
    from tvm.tirx.script.builder import ir as T

    from smartc.kernels.training.vectors import for_vectors, places
    from smartc.kernels.vector_math import splat

    with IRBuilder() as builder, T.prim_func(s_tir=True):
        runs, rows, across, columns, taps = (T.int64() for _ in range(5))
        length = across * columns * taps
        gradient, weight = (T.arg(name, T.buffer((runs, rows, length), "float32")) for name in ("gradient", "weight"))
        scale = T.arg("scale", T.buffer((runs, across, columns, taps), "float32"))
        product = T.arg("product", T.buffer((runs, rows, length), "float32"))
        scratch = T.arg("scratch", T.buffer((length,), "float32"))
        sums = T.arg("sums", T.buffer((runs, across, taps), "float32"))
        flat = T.decl_buffer((runs, length), "float32", data=scale.data)

        def add_up(run: Any, first: Any, width: int) -> None:
            """Go down a vector of columns of a row of tiles."""
            at = places(first, width)
            T.buffer_store(scratch, splat(0.0, width), [at])
            with T.serial(0, rows) as row:
                incoming = T.bind(gradient[run, row, at])
                T.buffer_store(scratch, scratch[at] + incoming * weight[run, row, at], [at])
                T.buffer_store(product, incoming * flat[run, at], [run, row, at])

        with T.serial(0, runs) as run:
            for_vectors(length, lanes, partial(add_up, run))
            with T.grid(across, taps) as (tile, tap):
                T.buffer_store(sums, splat(0.0, 1), [run, tile, tap])
            with T.grid(across, columns, taps) as (tile, column, tap):
                total = sums[run, tile, tap] + scratch[(tile * columns + column) * taps + tap]
                T.buffer_store(sums, total, [run, tile, tap])
    return builder.get()
