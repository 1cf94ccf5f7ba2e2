"""Convolutions of any stride, padding, dilation and groups by the block-sparse and the depthwise kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import fx

from smartc.core.errors import Argument, UserError
from smartc.ir.traced_model import argument_of, arguments_of, layer_name
from smartc.kernels.inference.convolution import convolution_kernel
from smartc.kernels.inference.convolution_call import Convolution
from smartc.kernels.inference.edges import edge_bits
from smartc.kernels.inference.few_rows import FEW_ROWS, few_rows
from smartc.kernels.inference.fusion import Fused, fused
from smartc.kernels.inference.geometry import Geometry, Pair, pixel_mask
from smartc.kernels.inference.layout import Grid, Layout, plain
from smartc.kernels.inference.map_writer import mask_of
from smartc.kernels.inference.maps import as_grid, as_rows, split_phases
from smartc.kernels.inference.max_pool import MaxPool, direct, max_pool_kernel
from smartc.kernels.inference.network import Held, Network
from smartc.kernels.inference.packing import Columns, Floats, Integers, pack
from smartc.kernels.inference.rules import rule
from smartc.kernels.inference.strided_rules import strided_depthwise
from smartc.kernels.inference.window import Window, window_kernel
from smartc.kernels.inference.windows import shape_of, window_geometry


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
        window: Reads beyond the map's edges, where other elements lie; None where zeros do.
    """

    node: fx.Node
    fused: Fused
    source: Held
    residual: Held | None
    taps: Integers
    grid: Grid
    target: Layout
    window: Geometry | None = None


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
    after, each = fused(network, node), groups > 1 and groups == shape_of(arguments_of(node)[0])[1]
    grid = output_grid(network, geometry, after.last)
    if each and strided_depthwise(network, after, (geometry, grid), weight, bias):
        return True
    site = convolution_site(network, node, geometry, len(weight), after)
    if each:
        value = depthwise(network, site, weight, bias)
    else:
        keep_zeros = network.dense.get(layer_name(node), False)
        columns = pack(weight, network.machine.rows, groups, keep_zeros, runs_of(site.taps, weight.shape[-1]))
        value = packed_convolution(network, site, columns, bias)
    site.fused.put(network, value)
    return True


def convolution_site(network: Network, node: fx.Node, geometry: Geometry, channels: int, after: Fused) -> Site:
    """Lay out the input and the output of a convolution."""
    batch = shape_of(node)[0]
    spacing, lanes = network.spacing(node), network.machine.lanes
    source, grid = network.held(arguments_of(node)[0]), output_grid(network, geometry, after.last)
    window = None
    if geometry.in_place and geometry.reach and spacing.slack:
        source = as_rows(network, source, Grid(*geometry.target, 0, lanes, slack=spacing.slack), node)
        taps, window = geometry.taps_in_grid(source.layout), geometry
    elif geometry.in_place and (spacing.joined or geometry.shared_gap <= spacing.gap):
        planes = geometry.planes if spacing.joined else (0, ())
        source = as_grid(network, source, Grid(*geometry.target, spacing.gap, lanes, *planes), node)
        taps = geometry.taps_in_grid(source.layout)
    else:
        window = geometry if spacing.slack and grid.gap < geometry.gap and geometry.fits(grid) else None
        source, taps = split_phases(network, source, geometry.phases(grid, edges=bool(window)), geometry, node)
    residual = _residual(network, after, grid)
    target = _output_layout(network, after.last, grid, (batch, channels))
    return Site(node, after, source, residual, taps, grid, target, window)


def output_grid(network: Network, geometry: Geometry, last: fx.Node) -> Grid:
    """Return the grid of the output of a window and of what its kernel does besides, as its readers need it."""
    spacing = network.spacing(last)
    gap = 0 if spacing.joined or spacing.slack else max(spacing.gap, geometry.gap)
    return Grid(*geometry.target, gap, network.machine.lanes, spacing.rows, spacing.shifts, spacing.slack)


def _output_layout(network: Network, last: fx.Node, grid: Grid, size: Pair) -> Layout:
    """Return the layout of an output: as its readers need it, or without gaps where the network returns it."""
    returned = all(user.op == "output" for user in last.users)
    if returned and network.machine.packs and not grid.shifts:
        return plain((*size, grid.height, grid.width))
    return grid.layout(*size)


def runs_of(taps: Integers, row: int) -> list[tuple[int, int]]:
    """Return the runs in which columns may come: channels, or the taps of a row of the window if all rows are alike."""
    rows = taps.reshape(-1, row)
    alike = bool((rows - rows[:, :1] == rows[0] - rows[0, 0]).all())
    return [(4, 1), (1, row), (1, 1)] if alike else [(4, 1), (1, 1)]


def packed_convolution(network: Network, site: Site, columns: Columns, bias: Floats | None) -> Held:
    """Call the block-sparse kernel."""
    channels = site.target.shape[1]
    residual, stride = site.residual, site.source.layout.strides[1]
    steps = columns.steps(stride, site.taps)
    offsets = columns.offsets(stride, site.taps)[:: columns.length] + site.source.layout.offset
    call = Convolution(
        name=network.name(site.node),
        source=site.source.layout,
        target=site.target,
        grid=site.grid,
        runs=len(columns.channel) // columns.length,
        steps=steps,
        groups=columns.groups,
        aligned=not (np.append(steps, offsets) % network.machine.lanes).any(),
        residual=residual.layout if residual else None,
        activation=site.fused.activation,
        taps=tuple(int(tap) for tap in site.taps) if site.window else (),
        run_taps=columns.run[1],
    )
    padded = np.zeros(columns.groups * network.machine.rows, np.float32)
    padded[:channels] = 0 if bias is None else bias
    first = np.append(offsets, [offsets[-1] if len(offsets) else 0] * call.ahead).astype(np.int32)
    values = columns.values.ravel() if len(offsets) else np.zeros(columns.length * network.machine.rows, np.float32)
    arguments = [site.source]
    for array in (values, first, columns.row_ptr // columns.length, padded):
        arguments.append(network.constant(array))
    if site.window:
        parts = call.parts(network.machine)
        arguments.append(network.constant(columns.tap[:: columns.length] if len(offsets) else np.zeros(1, np.int32)))
        arguments.append(network.constant(edge_bits(site.window, site.grid, parts)))
    arguments += _mask(network, site.grid, call.masked(network.machine))
    arguments += [residual] if residual else []
    return network.call(call.name, convolution_kernel(call, network.machine), arguments, site.target)


def _mask(network: Network, grid: Grid, masked: bool, pixels: Floats | None = None) -> list[Any]:
    """Return the mask that a kernel takes, if any."""
    mask = mask_of(grid, masked, pixels)
    return [] if mask is None else [network.constant(mask)]


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
    arguments += _mask(network, site.grid, call.masked)
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
            fix=("Leave tvm out of ", Argument("backends"), "; model.pt2 has the same network"),
        )
    scale = (1 if gamma is None else gamma) / np.sqrt(variance + float(argument_of(node, 7, "eps", 1e-5)))
    shift = (0 if beta is None else beta) - mean * scale
    shape = shape_of(node)
    held = network.held(arguments_of(node)[0])
    layout = held.layout if len(shape) == 4 else held.layout.reshaped((shape[0], shape[1], 1, math.prod(shape[2:])))
    if layout is None or held.dtype != "float32":
        return False
    after = fused(network, node) if len(shape) == 4 else Fused(node, node)
    spacing = network.spacing(after.last)
    grid = Grid(layout.shape[2], layout.shape[3], spacing.gap, network.machine.lanes)
    source = as_grid(network, Held(held.var, layout), grid, node)
    grid = replace(grid, more_rows=spacing.rows, shifts=spacing.shifts)
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
    bare = replace(grid, more_rows=0, shifts=(), slack=0)
    return as_grid(network, network.held(after.residual), bare, after.residual)


def pooled(network: Network, node: fx.Node, kind: str, scale: Floats | None) -> bool:
    """Compute a pooling: a maximum, or a sum times a number for each pixel."""
    geometry = window_geometry(node)
    if geometry is None or network.held(arguments_of(node)[0]).dtype != "float32":
        return False
    grid = output_grid(network, geometry, node)
    fill = float(np.finfo(np.float32).min) if kind == "max" else 0.0
    source = network.held(arguments_of(node)[0])
    split, taps = split_phases(network, source, geometry.phases(grid, fill), geometry, node)
    batch, channels = shape_of(node)[:2]
    target = grid.layout(batch, channels)
    call = Window(network.name(node), kind, split.layout, target, grid, tuple(int(tap) for tap in taps))
    mask = pixel_mask(grid)
    if scale is not None:
        mask[mask > 0] = scale.ravel()
    arguments = [split, *_mask(network, grid, call.masked, mask)]
    network.values[node] = network.call(call.name, window_kernel(call, network.machine), arguments, target)
    return True


@rule("max_pool2d")
def max_pool(network: Network, node: fx.Node) -> bool:
    """Compute a maximum over windows."""
    geometry, source = window_geometry(node), network.held(arguments_of(node)[0])
    if geometry is not None and source.dtype == "float32":
        grid = output_grid(network, geometry, node)
        if direct(geometry, source.layout, grid):
            target = grid.layout(*shape_of(node)[:2])
            call = MaxPool(network.name(node), geometry, source.layout, target, grid)
            network.values[node] = network.call(call.name, max_pool_kernel(call), [source], target)
            return True
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
    """Return the number of pixels that each window counts, shape (height, width)."""
    sizes = []
    for axis in (0, 1):
        first = np.arange(geometry.target[axis]) * geometry.stride[axis] - geometry.padding[axis]
        last = np.minimum(first + geometry.kernel[axis], geometry.source[axis] + geometry.padding[axis])
        if not include_padding:
            first, last = np.maximum(first, 0), np.minimum(last, geometry.source[axis])
        sizes.append((last - first).astype(np.float32))
    return sizes[0][:, None] * sizes[1]
