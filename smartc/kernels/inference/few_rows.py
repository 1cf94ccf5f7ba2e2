"""Linear layers of few rows by the matrix-vector kernel."""

from __future__ import annotations

import math

import numpy as np
from torch import fx

from smartc.ir.traced_model import arguments_of, layer_name
from smartc.kernels.inference.fusion import fused
from smartc.kernels.inference.layout import plain
from smartc.kernels.inference.matrix_vector import CHAINS, ROWS, MatrixVector, matrix_vector_kernel
from smartc.kernels.inference.network import Network
from smartc.kernels.inference.packing import Columns, Floats, pack
from smartc.kernels.inference.windows import shape_of

# Rows up to which output channels fill the lanes better than rows do.
FEW_ROWS = 16


def few_rows(network: Network, node: fx.Node, weight: Floats, bias: Floats | None) -> bool:
    """Compute a layer whose inputs are vectors, weight (out, in), by the matrix-vector kernel."""
    after = fused(network, node)
    columns = _in_chains(pack(weight, ROWS, keep_zeros=network.dense.get(layer_name(node), False)))
    rows = math.prod(shape_of(node)) // len(weight)
    call = MatrixVector(
        name=network.name(node),
        rows=rows,
        inner=weight.shape[1],
        outer=len(weight),
        columns=len(columns.channel),
        residual=after.residual is not None,
        activation=after.activation,
    )
    padded = np.zeros(call.groups * ROWS, np.float32)
    padded[: len(weight)] = 0 if bias is None else bias
    arguments = [network.plain(network.held(arguments_of(node)[0]), node)]
    arguments += [network.constant(array) for array in (columns.values.ravel(), columns.channel)]
    arguments += [network.constant(columns.row_ptr), network.constant(padded)]
    if after.residual is not None:
        arguments.append(network.plain(network.held(after.residual), after.residual))
    value = network.call(call.name, matrix_vector_kernel(call), arguments, plain(shape_of(node)))
    after.put(network, value)
    return True


def _in_chains(columns: Columns) -> Columns:
    """Return columns whose number in each group is a multiple of CHAINS; the last ones are zeros."""
    counts = np.diff(columns.row_ptr)
    wanted = -(-counts // CHAINS) * CHAINS
    ends = np.repeat(columns.row_ptr[1:], wanted - counts)
    return Columns(
        values=np.insert(columns.values, ends, 0, axis=0) if len(ends) else columns.values,
        channel=np.insert(columns.channel, ends, 0).astype(np.int32),
        tap=np.insert(columns.tap, ends, 0).astype(np.int32),
        row_ptr=np.concatenate([[0], np.cumsum(wanted)]).astype(np.int32),
    )
