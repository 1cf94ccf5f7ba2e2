"""The block-sparse matrix product for few rows: output channels in the lanes of a vector, inputs broadcast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from smartc.kernels.inference.vector_memory import prefetch
from smartc.kernels.vector_math import Activation

# Output channels of a column; narrower machines take a column in parts.
ROWS = 8
# Columns that are computed at once, to fill the multipliers; each group's are rounded up to a multiple.
CHAINS = 4
# Weights are read once, in a row; fetched this many floats ahead they arrive a fifth faster, across the ends of pages
# that the hardware does not look beyond.  Measured on AVX-512; twice and four times as far are alike.
AHEAD = 512
# Floats of a line of the caches.
_LINE = 16


@dataclass(frozen=True)
class MatrixVector:
    """One call of the kernel.

    Attributes:
        name: Of the function, a C identifier.
        rows, inner, outer: Sizes of ``x (rows, inner) @ weight.T (inner, outer)``.
        columns: Columns of the packed weight.
        residual: Whether a tensor of the output's shape is added.
        activation: Applied last, or None.
    """

    name: str
    rows: int
    inner: int
    outer: int
    columns: int
    residual: bool
    activation: Activation | None

    @property
    def groups(self) -> int:
        """Return the groups of output channels."""
        return -(-self.outer // ROWS)


def matrix_vector_kernel(call: MatrixVector) -> Any:
    """Return the function ``(x, values, offsets, row_ptr, bias, [residual], out)``.

    values: (columns * ROWS,).  offsets: (columns,), input channels.  bias: (groups * ROWS,).  x, residual and out
    are plain.
    """
    kernel = _Kernel(call)
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(call.name)
        T.func_attr({"tirx.noalias": True})
        kernel.declare()
        with T.parallel(0, call.groups) as group:
            for first in range(0, call.rows, CHAINS):
                kernel.compute(group, first, min(CHAINS, call.rows - first))
    return builder.get()


class _Kernel:
    """The buffers of the function while it is built."""

    def __init__(self, call: MatrixVector) -> None:
        self.call = call

    def declare(self) -> None:
        """Declare the arguments."""
        call = self.call
        self.x = T.arg("x", T.buffer((call.rows * call.inner,), "float32"))
        self.values = T.arg("values", T.buffer((call.columns * ROWS,), "float32"))
        self.offsets = T.arg("offsets", T.buffer((call.columns,), "int32"))
        self.row_ptr = T.arg("row_ptr", T.buffer((call.groups + 1,), "int32"))
        self.bias = T.arg("bias", T.buffer((call.groups * ROWS,), "float32"))
        if call.residual:
            self.residual = T.arg("residual", T.buffer((call.rows * call.outer,), "float32"))
        self.out = T.arg("out", T.buffer((call.rows * call.outer,), "float32"))

    def compute(self, index: Any, first: int, rows: int) -> None:
        """Compute some rows of one group of output channels."""
        chains = CHAINS // rows
        here = T.Ramp(0, 1, ROWS)
        with T.sblock(f"rows_{first}"):
            group = T.axis.spatial(self.call.groups, index)
            sums = [
                [T.sblock_alloc_buffer((ROWS,), "float32", scope="global") for _ in range(chains)] for _ in range(rows)
            ]
            for row in range(rows):
                for chain in range(chains):
                    bias = self.bias[T.Ramp(group * ROWS, 1, ROWS)]
                    zero = T.Broadcast(tirx.FloatImm("float32", 0.0), ROWS)
                    T.buffer_store(sums[row][chain], zero if chain else bias, [here])
            start, end = self.row_ptr[group], self.row_ptr[group + 1]
            with T.serial(0, tirx.floordiv(end - start, chains)) as step:
                for line in range(0, chains * ROWS, _LINE):
                    prefetch(self.values, (start + step * chains) * ROWS + AHEAD + line)
                for chain in range(chains):
                    column = start + step * chains + chain
                    weight = self.values[T.Ramp(column * ROWS, 1, ROWS)]
                    for row in range(rows):
                        x = self.x[self.offsets[column] + (first + row) * self.call.inner]
                        total = sums[row][chain]
                        T.buffer_store(total, total[here] + weight * T.Broadcast(x, ROWS), [here])
            for row in range(rows):
                self._finish(sums[row], group, first + row)

    def _finish(self, sums: list[Any], group: Any, row: int) -> None:
        """Add the chains and store one row's part."""
        call, here = self.call, T.Ramp(0, 1, ROWS)
        for other in sums[1:]:
            T.buffer_store(sums[0], sums[0][here] + other[here], [here])
        place = group * ROWS + row * call.outer
        if call.outer % ROWS == 0:
            self._store(sums[0], 0, place, ROWS)
            return
        with T.If(group * ROWS + ROWS <= call.outer):
            with T.Then():
                self._store(sums[0], 0, place, ROWS)
            with T.Else():
                for lane in range(call.outer % ROWS):
                    self._store(sums[0], lane, place, 1)

    def _store(self, total: Any, lane: int, place: Any, lanes: int) -> None:
        """Add the residual, apply the activation and store."""
        here = T.Ramp(lane, 1, lanes) if lanes > 1 else lane
        there = T.Ramp(place + lane, 1, lanes) if lanes > 1 else place + lane
        value = total[here]
        if self.call.residual:
            T.buffer_store(total, value + self.residual[there], [here])
        value = total[here]
        activation = self.call.activation
        T.buffer_store(self.out, activation.apply(value, lanes) if activation else value, [there])
