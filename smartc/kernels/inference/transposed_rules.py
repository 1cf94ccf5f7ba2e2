"""Transposed convolutions: for each phase of the output an ordinary convolution, all of them in one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import fx

from smartc.ir.traced_model import argument_of, arguments_of
from smartc.kernels.inference.convolution_rules import convolution_site, packed_convolution, runs_of
from smartc.kernels.inference.fusion import Fused, fused
from smartc.kernels.inference.geometry import Geometry, Pair
from smartc.kernels.inference.layout import Layout, plain
from smartc.kernels.inference.network import Held, Network
from smartc.kernels.inference.packing import Floats, pack
from smartc.kernels.inference.rules import rule
from smartc.kernels.inference.windows import pair, shape_of


@rule("conv_transpose2d")
def transposed(network: Network, node: fx.Node) -> bool:
    """Compute a transposed convolution with a stored weight."""
    weight, bias = network.array(arguments_of(node)[1]), network.array(argument_of(node, 2, "bias"))
    if weight is None or weight.dtype != np.float32 or len(shape_of(node)) != 4:
        return False
    stride, padding = pair(argument_of(node, 3, "stride", 1)), pair(argument_of(node, 4, "padding", 0))
    groups, dilation = int(argument_of(node, 6, "groups", 1)), pair(argument_of(node, 7, "dilation", 1))
    source, target = pair(shape_of(arguments_of(node)[0])[2:]), pair(shape_of(node)[2:])
    phases = [-(-size // step) for size, step in zip(target, stride, strict=True)]
    shifts = [_shifts(weight.shape[2 + axis], stride[axis], padding[axis], dilation[axis]) for axis in (0, 1)]
    low = [min(row.values()) for row in shifts]
    high = [max(row.values()) for row in shifts]
    geometry = Geometry(
        kernel=(high[0] - low[0] + 1, high[1] - low[1] + 1),
        stride=(1, 1),
        padding=(-low[0], -low[1]),
        dilation=(1, 1),
        source=source,
        target=(phases[0], phases[1]),
    )
    full = _as_convolution(weight, groups, stride, (shifts[0], shifts[1]))
    after = fused(network, node)
    after = Fused(node, node) if after.residual is not None else after
    channels = full.shape[0]
    site = convolution_site(network, node, geometry, channels, after)
    columns = pack(full, network.machine.rows, runs=runs_of(site.taps, full.shape[-1]))
    spread = None if bias is None else np.tile(bias, stride[0] * stride[1])
    value = packed_convolution(network, site, columns, spread)
    after.put(network, _shuffled(network, value, node, stride))
    return True


def _shifts(size: int, stride: int, padding: int, dilation: int) -> dict[tuple[int, int], int]:
    """Return along one axis, by phase and tap, the distance from the phase's pixel to the one that the tap reads."""
    ways = ((phase, tap, phase + padding - tap * dilation) for phase in range(stride) for tap in range(size))
    return {(phase, tap): distance // stride for phase, tap, distance in ways if distance % stride == 0}


def _as_convolution(
    weight: Floats, groups: int, stride: Pair, shifts: tuple[dict[tuple[int, int], int], dict[tuple[int, int], int]]
) -> Floats:
    """Return the weight (phases * out, in, taps down, taps right) of the convolution that computes all phases."""
    inner, outer = weight.shape[0], weight.shape[1] * groups
    low, high = ([choose(row.values()) for row in shifts] for choose in (min, max))
    full = np.zeros((*stride, outer, inner, high[0] - low[0] + 1, high[1] - low[1] + 1), np.float32)
    dense = np.zeros((outer, inner, *weight.shape[2:]), np.float32)
    for group in range(groups):
        here = slice(group * inner // groups, (group + 1) * inner // groups)
        there = slice(group * weight.shape[1], (group + 1) * weight.shape[1])
        dense[there, here] = weight[here].transpose(1, 0, 2, 3)
    for (down, tap_y), y in shifts[0].items():
        for (right, tap_x), x in shifts[1].items():
            full[down, right, :, :, y - low[0], x - low[1]] = dense[:, :, tap_y, tap_x]
    return full.reshape(-1, *full.shape[3:])


def _shuffled(network: Network, held: Held, node: fx.Node, stride: Pair) -> Held:
    """Put the phases' pixels between each other."""
    images, channels, height, width = shape_of(node)
    rows, pixels = held.layout.shape[2:]
    if stride == (1, 1):
        return held
    batch, step, pitch, one = held.layout.strides
    split = Layout(
        (images, channels, rows, stride[0], pixels, stride[1]),
        (batch, step, pitch, step * channels * stride[1], one, step * channels),
        held.layout.offset,
        held.layout.size,
    )
    whole = plain((images, channels, rows * stride[0], pixels * stride[1]))
    target = whole.reshaped(split.shape)
    assert target is not None
    copied = network.copied(Held(held.var, split), target, node)
    return replace(copied, layout=whole.sliced(2, 0, height).sliced(3, 0, width))
