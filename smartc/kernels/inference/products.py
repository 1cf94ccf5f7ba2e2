"""Products of two computed tensors, and softmax over their last axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from smartc.kernels.inference.chunking import chunks
from smartc.kernels.inference.layout import Layout
from smartc.kernels.machine import Machine
from smartc.kernels.vector_math import exponential, splat


@dataclass(frozen=True)
class Product:
    """One call of the kernel; all layouts have four axes, the first two of them counting matrices.

    Attributes:
        name: Of the function, a C identifier.
        left: Where matrices (rows, inner) lie, anyhow; a stride of 0 repeats a matrix.
        right: Where matrices (inner, columns) lie, columns in runs of whole vectors.
        target: Where the products go, columns in runs of whole vectors.
    """

    name: str
    left: Layout
    right: Layout
    target: Layout


def product_kernel(call: Product, machine: Machine) -> Any:
    """Return the function ``(left, right, out)`` on flat buffers."""
    outer, inner, rows, columns = call.target.shape
    groups = -(-rows // machine.rows)
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(call.name)
        T.func_attr({"tirx.noalias": True})
        layouts = (call.left, call.right, call.target)
        buffers = [
            T.arg(name, T.buffer((layout.size,), "float32"))
            for name, layout in zip(("left", "right", "out"), layouts, strict=True)
        ]
        with T.parallel(0, outer * inner * groups) as index:
            for first, count, vectors in chunks(-(-columns // machine.lanes), machine.vectors):
                with T.serial(0, count) as chunk, T.sblock(f"columns_{vectors}"):
                    place = T.axis.spatial(outer * inner * groups, index)
                    step = T.axis.spatial(columns, chunk)
                    matrix = tirx.floordiv(place, groups)
                    starts = [_start(layout, matrix, inner) for layout in layouts]
                    base = (first + step * vectors) * machine.lanes
                    part = (tirx.floormod(place, groups) * machine.rows, vectors)
                    _multiply(call, buffers, (starts, base), part, machine)
    return builder.get()


def _start(layout: Layout, matrix: Any, inner: int) -> Any:
    """Return where a matrix begins."""
    strides = layout.strides
    return tirx.floordiv(matrix, inner) * strides[0] + tirx.floormod(matrix, inner) * strides[1] + layout.offset


def _multiply(call: Product, buffers: Any, origin: Any, part: tuple[Any, int], machine: Machine) -> None:
    """Compute some columns of a group of rows."""
    (left, right, out), (starts, base), (first, vectors) = buffers, origin, part
    lanes = machine.lanes
    # The rows beyond the last one repeat it, so that they may be stored in its place.
    rows = [tirx.min(first + row, call.target.shape[2] - 1) for row in range(machine.rows)]
    sums = [T.sblock_alloc_buffer((vectors * lanes,), "float32", scope="global") for _ in rows]
    heres = [T.Ramp(vector * lanes, 1, lanes) for vector in range(vectors)]
    for total in sums:
        for here in heres:
            T.buffer_store(total, splat(0.0, lanes), [here])
    with T.serial(0, call.left.shape[3]) as inner:
        for row, total in zip(rows, sums, strict=True):
            weight = left[starts[0] + row * call.left.strides[2] + inner * call.left.strides[3]]
            for vector, here in enumerate(heres):
                place = starts[1] + inner * call.right.strides[2] + base + vector * lanes
                value = total[here] + T.Broadcast(weight, lanes) * right[T.Ramp(place, 1, lanes)]
                T.buffer_store(total, value, [here])
    for row, total in zip(rows, sums, strict=True):
        for vector, here in enumerate(heres):
            place = starts[2] + row * call.target.strides[2] + base + vector * lanes
            T.buffer_store(out, total[here], [T.Ramp(place, 1, lanes)])


def softmax_kernel(name: str, rows: int, size: int, lanes: int) -> Any:
    """Return the function ``(x, out)`` on plain buffers (rows, size)."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(name)
        T.func_attr({"tirx.noalias": True})
        x = T.arg("x", T.buffer((rows * size,), "float32"))
        out = T.arg("out", T.buffer((rows * size,), "float32"))
        with T.parallel(0, rows) as index, T.sblock("row"):
            row = T.axis.spatial(rows, index)
            largest, total = (T.sblock_alloc_buffer((lanes,), "float32", scope="global") for _ in range(2))
            T.buffer_store(largest, T.Broadcast(x[row * size], lanes), [T.Ramp(0, 1, lanes)])
            T.buffer_store(total, splat(0.0, lanes), [T.Ramp(0, 1, lanes)])
            for start, count, width in _pieces(size, lanes):
                with T.serial(0, count) as step:
                    here, there = _run(0, width), _run(row * size + start + step * width, width)
                    T.buffer_store(largest, tirx.max(largest[here], x[there]), [here])
            _fold(largest, lanes, tirx.max)
            for start, count, width in _pieces(size, lanes):
                with T.serial(0, count) as step:
                    here, there = _run(0, width), _run(row * size + start + step * width, width)
                    T.buffer_store(out, exponential(x[there] - _spread(largest[0], width), width), [there])
                    T.buffer_store(total, total[here] + out[there], [here])
            _fold(total, lanes, lambda first, second: first + second)
            for start, count, width in _pieces(size, lanes):
                with T.serial(0, count) as step:
                    there = _run(row * size + start + step * width, width)
                    T.buffer_store(out, out[there] / _spread(total[0], width), [there])
    return builder.get()


def _pieces(size: int, lanes: int) -> list[tuple[int, int, int]]:
    """Return start, number of vectors and their lanes of the parts of a row."""
    whole = size // lanes * lanes
    parts = [(0, size // lanes, lanes), (whole, size - whole, 1)]
    return [part for part in parts if part[1]]


def _run(place: Any, width: int) -> Any:
    """Return the index of ``width`` neighbours."""
    return T.Ramp(place, 1, width) if width > 1 else place


def _spread(value: Any, width: int) -> Any:
    """Return a vector of one value."""
    return T.Broadcast(value, width) if width > 1 else value


def _fold(buffer: Any, lanes: int, combine: Any) -> None:
    """Combine all lanes into the first."""
    while lanes > 1:
        lanes //= 2
        T.buffer_store(buffer, combine(buffer[_run(0, lanes)], buffer[_run(lanes, lanes)]), [_run(0, lanes)])
