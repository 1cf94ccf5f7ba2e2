"""Depthwise convolutions with a stride, by the kernel that reads its input where it lies."""

from __future__ import annotations

import numpy as np

from smartc.ir.traced_model import arguments_of
from smartc.kernels.inference.fusion import Fused
from smartc.kernels.inference.geometry import Geometry
from smartc.kernels.inference.layout import Grid
from smartc.kernels.inference.network import Network
from smartc.kernels.inference.packing import Floats
from smartc.kernels.inference.strided_depthwise import StridedDepthwise, reads_in_place, strided_depthwise_kernel
from smartc.kernels.inference.windows import shape_of


def strided_depthwise(
    network: Network, after: Fused, window: tuple[Geometry, Grid], weight: Floats, bias: Floats | None
) -> bool:
    """Compute a depthwise convolution and what is fused with it, if the kernel can."""
    (geometry, grid), source = window, network.held(arguments_of(after.first)[0])
    returned = all(user.op == "output" for user in after.last.users)
    if returned or after.residual is not None or source.dtype != "float32":
        return False
    if not reads_in_place(geometry, source.layout, grid):
        return False
    target = grid.layout(*shape_of(after.first)[:2])
    call = StridedDepthwise(network.name(after.first), geometry, source.layout, target, grid, after.activation)
    bias = np.zeros(len(weight), np.float32) if bias is None else bias
    arguments = [source, network.constant(weight.ravel()), network.constant(bias)]
    after.put(network, network.call(call.name, strided_depthwise_kernel(call), arguments, target))
    return True
