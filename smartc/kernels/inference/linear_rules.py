"""Linear layers: few rows by the matrix-vector kernel, many tokens by the convolution's."""

from __future__ import annotations

import math

import numpy as np
from torch import fx

from smartc.ir.traced_model import argument_of, arguments_of, layer_name
from smartc.kernels.inference.convolution_rules import Site, packed_convolution, runs_of
from smartc.kernels.inference.few_rows import FEW_ROWS, few_rows
from smartc.kernels.inference.fusion import fused
from smartc.kernels.inference.network import Held, Network
from smartc.kernels.inference.packing import Floats, pack
from smartc.kernels.inference.rules import rule
from smartc.kernels.inference.tokens import as_tokens, token_grid, token_layout
from smartc.kernels.inference.windows import shape_of


@rule("linear")
def linear(network: Network, node: fx.Node) -> bool:
    """Compute a linear layer with a stored weight."""
    weight, bias = network.array(arguments_of(node)[1]), network.array(argument_of(node, 2, "bias"))
    if weight is None or weight.dtype != np.float32:
        return False
    if math.prod(shape_of(node)[:-1]) <= FEW_ROWS:
        return few_rows(network, node, weight, bias)
    return _tokens(network, node, weight, bias)


def _tokens(network: Network, node: fx.Node, weight: Floats, bias: Floats | None) -> bool:
    """Call the convolution's kernel with tokens for pixels."""
    after, lanes = fused(network, node), network.machine.lanes
    shape = shape_of(node)
    grid = token_grid(shape, lanes)
    keep_zeros = network.dense.get(layer_name(node), False)
    columns = pack(weight, network.machine.rows, keep_zeros=keep_zeros, runs=runs_of(np.zeros(1, np.int32), 1))
    site = Site(
        node=node,
        fused=after,
        source=as_tokens(network, network.held(arguments_of(node)[0]), node),
        residual=None if after.residual is None else as_tokens(network, network.held(after.residual), after.residual),
        taps=np.zeros(1, np.int32),
        grid=grid,
        target=grid.layout(shape[0] if len(shape) > 2 else 1, len(weight)),
    )
    value = packed_convolution(network, site, columns, bias)
    after.put(network, Held(value.var, token_layout(shape, lanes)))
    return True
