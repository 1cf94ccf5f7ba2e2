"""Convolutions of any stride, padding, dilation and groups by the block-sparse and the depthwise kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import fx

from smartc.errors import UserError
from smartc.lowering.tvm_kernels.convolution import PIXELS_AHEAD, Convolution, convolution_kernel
from smartc.lowering.tvm_kernels.few_rows import FEW_ROWS, few_rows
from smartc.lowering.tvm_kernels.fusion import Fused, fused
from smartc.lowering.tvm_kernels.geometry import Geometry, pixel_mask
from smartc.lowering.tvm_kernels.layout import Grid, Layout
from smartc.lowering.tvm_kernels.maps import as_grid, split_phases
from smartc.lowering.tvm_kernels.network import Held, Network
from smartc.lowering.tvm_kernels.packing import Columns, Floats, Integers, pack
from smartc.lowering.tvm_kernels.rules import rule
from smartc.lowering.tvm_kernels.window import Window, window_kernel
from smartc.lowering.tvm_kernels.windows import shape_of, window_geometry
from smartc.model import argument_of, arguments_of, layer_name


@dataclass(frozen=True)
class Site:
    """A convolution and where it reads and writes.

    Attributes:
        node: The call.
        fused: What its kernel does besides.
        source: The input, its rows as far apart as the output's.
        residual: What is added, its rows as far apart as the output's, or None.
        taps: Distance in the input of each place of the kernel from the output's pixel.
        grid: The output's.
        target: The output's layout.
    """

    node: fx.Node
    fused: Fused
    source: Held
    residual: Held | None
    taps: Integers
    grid: Grid
    target: Layout


@rule("conv2d")
def convolve(network: Network, node: fx.Node) -> bool:
    """Compute a convolution with a stored weight."""
    weight, bias = network.array(arguments_of(node)[1]), network.array(argument_of(node, 2, "bias"))
    geometry = window_geometry(node)
    if weight is None or geometry is None or weight.dtype != np.float32:
        return False
    groups = int(argument_of(node, 6, "groups", 1))
    vectors = shape_of(arguments_of(node)[0])[2:] == weight.shape[2:] == shape_of(node)[2:] == (1, 1)
    if vectors and groups == 1 and shape_of(node)[0] <= FEW_ROWS:
        return few_rows(network, node, weight.reshape(weight.shape[:2]), bias)
    site = convolution_site(network, node, geometry, len(weight), fused(network, node))
    if groups > 1 and groups == shape_of(arguments_of(node)[0])[1]:
        value = depthwise(network, site, weight, bias)
    else:
        keep_zeros = network.dense.get(layer_name(node), False)
        value = packed_convolution(network, site, pack(weight, network.machine.rows, groups, keep_zeros), bias)
    site.fused.put(network, value)
    return True


def convolution_site(network: Network, node: fx.Node, geometry: Geometry, channels: int, after: Fused) -> Site:
    """Lay out the input and the output of a convolution."""
    batch = shape_of(node)[0]
    shared, lanes = network.gaps.get(node, 0), network.machine.lanes
    source = network.held(arguments_of(node)[0])
    if geometry.in_place and geometry.shared_gap <= shared:
        grid = Grid(*geometry.target, shared, lanes)
        source, taps = as_grid(network, source, grid, node), geometry.taps_in_grid(grid.pitch)
    else:
        grid = Grid(*geometry.target, max(shared, geometry.gap), lanes)
        source, taps = split_phases(network, source, geometry.phases(grid), geometry, node)
    residual = _residual(network, after, grid)
    return Site(node, after, source, residual, taps, grid, grid.layout(batch, channels))


def packed_convolution(network: Network, site: Site, columns: Columns, bias: Floats | None) -> Held:
    """Call the block-sparse kernel."""
    channels = site.target.shape[1]
    residual = site.residual
    call = Convolution(
        name=network.name(site.node),
        source=site.source.layout,
        target=site.target,
        grid=site.grid,
        columns=len(columns.channel),
        groups=columns.groups,
        residual=residual.layout if residual else None,
        activation=site.fused.activation,
    )
    padded = np.zeros(columns.groups * network.machine.rows, np.float32)
    padded[:channels] = 0 if bias is None else bias
    offsets = columns.offsets(site.source.layout.strides[1], site.taps) + site.source.layout.offset
    arguments = [site.source, *_packed(network, columns, offsets.astype(np.int32)), network.constant(padded)]
    arguments += [network.constant(pixel_mask(site.grid))] if call.masked else []
    arguments += [residual] if residual else []
    return network.call(call.name, convolution_kernel(call, network.machine), arguments, site.target)


def _packed(network: Network, columns: Columns, offsets: Integers) -> list[Any]:
    """Return values, offsets and row pointers as constants; the offsets go on past their end."""
    ahead = np.full(PIXELS_AHEAD, offsets[-1] if len(offsets) else 0, np.int32)
    values = columns.values.ravel() if len(offsets) else np.zeros(network.machine.rows, np.float32)
    return [network.constant(array) for array in (values, np.concatenate([offsets, ahead]), columns.row_ptr)]


def depthwise(network: Network, site: Site, weight: Floats, bias: Floats | None) -> Held:
    """Call the depthwise kernel."""
    residual = site.residual
    call = Window(
        name=network.name(site.node),
        kind="depthwise",
        source=site.source.layout,
        target=site.target,
        grid=site.grid,
        taps=tuple(int(tap) for tap in site.taps),
        residual=residual.layout if residual else None,
        activation=site.fused.activation,
    )
    bias = np.zeros(len(weight), np.float32) if bias is None else bias
    arguments = [site.source, network.constant(weight.ravel()), network.constant(bias)]
    arguments += [network.constant(pixel_mask(site.grid))] if call.masked else []
    arguments += [residual] if residual else []
    return network.call(call.name, window_kernel(call, network.machine), arguments, site.target)


@rule("batch_norm")
def batch_norm(network: Network, node: fx.Node) -> bool:
    """Scale and shift each channel: a depthwise convolution of one tap.

    Raises:
        UserError: It takes statistics from the batch.
    """
    gamma, beta, mean, variance = (network.array(term) for term in arguments_of(node)[1:5])
    if mean is None or variance is None or arguments_of(node)[5]:
        raise UserError(
            "the batch norm takes its statistics from the batch",
            where=layer_name(node),
            fix="Leave tvm out of --backend; model.pt2 has the same network",
        )
    scale = (1 if gamma is None else gamma) / np.sqrt(variance + float(argument_of(node, 7, "eps", 1e-5)))
    shift = (0 if beta is None else beta) - mean * scale
    shape = shape_of(node)
    held = network.held(arguments_of(node)[0])
    layout = held.layout if len(shape) == 4 else held.layout.reshaped((shape[0], shape[1], 1, math.prod(shape[2:])))
    if layout is None or held.dtype != "float32":
        return False
    grid = Grid(layout.shape[2], layout.shape[3], network.gaps.get(node, 0), network.machine.lanes)
    source = as_grid(network, Held(held.var, layout), grid, node)
    after = fused(network, node) if len(shape) == 4 else Fused(node, node)
    residual = _residual(network, after, grid)
    site = Site(node, after, source, residual, np.zeros(1, np.int32), grid, grid.layout(*shape[:2]))
    value = depthwise(network, site, scale.astype(np.float32), shift.astype(np.float32))
    reading = value.layout if len(shape) == 4 else value.layout.reshaped(shape)
    assert reading is not None
    after.put(network, Held(value.var, reading))
    return True


def _residual(network: Network, after: Fused, grid: Grid) -> Held | None:
    """Return the tensor to add, its rows as far apart as the output's."""
    if after.residual is None:
        return None
    return as_grid(network, network.held(after.residual), grid, after.residual)


def pooled(network: Network, node: fx.Node, kind: str, scale: Floats | None) -> bool:
    """Compute a pooling: a maximum, or a sum times a number for each pixel."""
    geometry = window_geometry(node)
    if geometry is None or network.held(arguments_of(node)[0]).dtype != "float32":
        return False
    grid = Grid(*geometry.target, max(network.gaps.get(node, 0), geometry.gap), network.machine.lanes)
    fill = float(np.finfo(np.float32).min) if kind == "max" else 0.0
    source = network.held(arguments_of(node)[0])
    split, taps = split_phases(network, source, geometry.phases(grid, fill), geometry, node)
    batch, channels = shape_of(node)[:2]
    target = grid.layout(batch, channels)
    call = Window(network.name(node), kind, split.layout, target, grid, tuple(int(tap) for tap in taps))
    arguments: list[Any] = [split]
    if call.masked:
        mask = pixel_mask(grid)
        if scale is not None:
            mask[mask > 0] = scale.ravel()
        arguments.append(network.constant(mask))
    network.values[node] = network.call(call.name, window_kernel(call, network.machine), arguments, target)
    return True


@rule("max_pool2d")
def max_pool(network: Network, node: fx.Node) -> bool:
    """Compute a maximum over windows."""
    return pooled(network, node, "max", None)


@rule("avg_pool2d")
def average_pool(network: Network, node: fx.Node) -> bool:
    """Compute a mean over windows; each pixel is divided by what its window counts."""
    geometry = window_geometry(node)
    if geometry is None:
        return False
    divisor = argument_of(node, 6, "divisor_override")
    counts = _counts(geometry, bool(argument_of(node, 5, "count_include_pad", True)))
    scale = 1 / (np.full_like(counts, divisor) if divisor else counts)
    return pooled(network, node, "sum", scale.astype(np.float32))


def _counts(geometry: Geometry, include_padding: bool) -> Floats:
    """Return how many pixels each window counts, shape (height, width)."""
    sizes = []
    for axis in (0, 1):
        first = np.arange(geometry.target[axis]) * geometry.stride[axis] - geometry.padding[axis]
        last = np.minimum(first + geometry.kernel[axis], geometry.source[axis] + geometry.padding[axis])
        if not include_padding:
            first, last = np.maximum(first, 0), np.minimum(last, geometry.source[axis])
        sizes.append((last - first).astype(np.float32))
    return sizes[0][:, None] * sizes[1]
