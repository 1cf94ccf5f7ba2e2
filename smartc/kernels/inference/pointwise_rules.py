"""Activations, sums and products where they lie, without moving a tensor."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from torch import fx

from smartc.ir.traced_model import argument_of, arguments_of, operator_name
from smartc.kernels.inference.fusion import Fused, activation_of, fused
from smartc.kernels.inference.layout import Grid, Layout, plain
from smartc.kernels.inference.maps import as_grid, fits
from smartc.kernels.inference.network import Held, Network
from smartc.kernels.inference.pointwise import Pointwise, channel_kernel, mean_kernel, pointwise_kernel
from smartc.kernels.inference.rules import rule
from smartc.kernels.inference.tokens import token_layout
from smartc.kernels.inference.windows import shape_of


# Those named here have no formula, but one that their other arguments choose.
@rule("hardtanh", "clamp", "gelu", "leaky_relu", serves=lambda operator: operator.formula is not None)
def activation(network: Network, node: fx.Node) -> bool:
    """Apply an activation function that no kernel before it could take in."""
    function = activation_of(node)
    held = network.held(arguments_of(node)[0])
    if function is None or held.dtype != "float32" or not _dense_buffer(held.layout):
        return False
    call = Pointwise(network.name(node), held.layout.size, None, activation=function)
    layout = held.layout if function.zero_at_zero else replace(held.layout, gap=None)
    network.values[node] = _whole(network, call, [held], layout)
    return True


@rule("add", "sub", "mul", "div")
def arithmetic(network: Network, node: fx.Node) -> bool:
    """Combine two tensors of one shape, a tensor and a number for each channel, or a tensor and a number."""
    if node.kwargs.get("alpha", 1) != 1 or not str(node.meta["val"].dtype).endswith("float32"):
        return False
    first, second = arguments_of(node)[:2]
    if not isinstance(second, fx.Node):
        return _with_number(network, node, float(second)) if isinstance(first, fx.Node) else False
    if not isinstance(first, fx.Node) or any(network.held(term).dtype != "float32" for term in (first, second)):
        return False
    if shape_of(first) == shape_of(second) == shape_of(node):
        return _same_shape(network, node, first, second)
    kind = operator_name(node.target)
    if _per_channel(network, second, first):
        return _each_channel(network, node, first, second)
    if kind in ("add", "mul") and _per_channel(network, first, second):
        return _each_channel(network, node, second, first)
    return False


def _with_number(network: Network, node: fx.Node, number: float) -> bool:
    """Combine a tensor and a number."""
    kind, held = operator_name(node.target), network.held(arguments_of(node)[0])
    if held.dtype != "float32" or not _dense_buffer(held.layout):
        return False
    after = _activated(network, node)
    scale = {"mul": number, "div": 1 / number if number else 0.0}.get(kind, 1.0)
    shift = {"add": number, "sub": -number}.get(kind, 0.0)
    if kind == "div" and not number:
        return False
    call = Pointwise(network.name(node), held.layout.size, None, scale, shift, after.activation)
    keeps = shift == 0 and (after.activation is None or after.activation.zero_at_zero)
    after.put(network, _whole(network, call, [held], held.layout if keeps else replace(held.layout, gap=None)))
    return True


def _same_shape(network: Network, node: fx.Node, first: fx.Node, second: fx.Node) -> bool:
    """Combine two tensors, the second brought to the place of the first, or both to a grid."""
    left, right = network.held(first), network.held(second)
    if not left.layout.same_place(right.layout) or not _dense_buffer(left.layout):
        left, right = _together(network, node, (first, second))
    kind, after = operator_name(node.target), _activated(network, node)
    call = Pointwise(network.name(node), left.layout.size, kind, activation=after.activation)
    keeps = kind != "div" and _alike(left.layout, right.layout)
    keeps = keeps and (after.activation is None or after.activation.zero_at_zero)
    after.put(network, _whole(network, call, [left, right], left.layout if keeps else replace(left.layout, gap=None)))
    return True


def _together(network: Network, node: fx.Node, terms: tuple[fx.Node, fx.Node]) -> tuple[Held, Held]:
    """Return both tensors in one layout: a map's grid, the layout of tokens, or plain."""
    shape, lanes = shape_of(node), network.machine.lanes
    held = [network.held(term) for term in terms]
    if len(shape) == 4 and any(one.layout.gap is not None for one in held):
        grid = Grid(shape[2], shape[3], network.spacing(node).gap, lanes)
        left, right = (as_grid(network, one, grid, term) for one, term in zip(held, terms, strict=True))
        if left.layout.same_place(right.layout):
            return left, right
    if len(shape) > 1 and not all(one.layout.plain for one in held):
        target = token_layout(shape, lanes)
        if any(one.layout.same_place(target) for one in held):
            left, right = (
                one if one.layout.same_place(target) else network.copied(one, target, term)
                for one, term in zip(held, terms, strict=True)
            )
            return left, right
    return network.plain(held[0], terms[0]), network.plain(held[1], terms[1])


def _alike(first: Layout, second: Layout) -> bool:
    """Return whether two maps have the same zeros and planes."""
    return (first.gap, first.rows, first.planes) == (second.gap, second.rows, second.planes)


def _per_channel(network: Network, number: fx.Node, tensor: fx.Node) -> bool:
    """Return whether a tensor has one number for each channel of a map in a grid."""
    shape, theirs = shape_of(tensor), shape_of(number)
    if len(shape) != 4 or len(theirs) not in (3, 4) or theirs[-2:] != (1, 1) or theirs[-3] != shape[1]:
        return False
    layout = network.held(tensor).layout
    runs = layout.strides[1] % network.machine.lanes == 0 and layout.strides[0] == layout.strides[1] * shape[1]
    return runs and _dense_buffer(layout) and (len(theirs) == 3 or theirs[0] in (1, shape[0]))


def _each_channel(network: Network, node: fx.Node, tensor: fx.Node, number: fx.Node) -> bool:
    """Combine a map and a number for each channel."""
    held, other = network.held(tensor), network.plain(network.held(number), number)
    images, channels = held.layout.shape[:2]
    repeats = len(other.layout.shape) == 3 or other.layout.shape[0] == 1
    strides = (0 if repeats else channels, 1, 0, 0)
    seen = Layout((images, channels, 1, 1), strides, 0, other.layout.size)
    kind, after = operator_name(node.target), _activated(network, node)
    call = Pointwise(network.name(node), held.layout.size, kind, activation=after.activation)
    keeps = kind == "mul" and (after.activation is None or after.activation.zero_at_zero)
    layout = held.layout if keeps else replace(held.layout, gap=None)
    kernel = channel_kernel(call, held.layout, seen, network.machine.lanes)
    after.put(network, network.call(call.name, kernel, [held, other], layout))
    return True


def _activated(network: Network, node: fx.Node) -> Fused:
    """Return a node with the activation that alone reads it."""
    after = fused(network, node)
    return after if after.residual is None else Fused(node, node)


def _whole(network: Network, call: Pointwise, held: list[Held], layout: Layout) -> Held:
    """Call the kernel on whole buffers."""
    return network.call(call.name, pointwise_kernel(call, network.machine.lanes), held, layout)


def _dense_buffer(layout: Layout) -> bool:
    """Return whether it costs little to compute a whole buffer for the tensor in it."""
    size, copies = math.prod(layout.shape), 1 + len(layout.planes)
    return (
        0 not in [s for s, n in zip(layout.strides, layout.shape, strict=True) if n > 1]
        and layout.size <= 2 * copies * size
    )


@rule("adaptive_avg_pool2d", "mean")
def channel_mean(network: Network, node: fx.Node) -> bool:
    """Take the mean over all pixels of a map."""
    source = arguments_of(node)[0]
    if len(shape_of(source)) != 4 or not _all_pixels(node):
        return False
    held = network.held(source)
    if held.dtype != "float32":
        return False
    images, channels, height, width = held.layout.shape
    gap = 0 if held.layout.gap is None else held.layout.gap
    grid = Grid(height, width, gap, network.machine.lanes, held.layout.rows)
    if held.layout.gap is None or not fits(held.layout, grid):
        grid = Grid(height, width, 0, network.machine.lanes)
        held = as_grid(network, network.plain(held, node), grid, node)
    if not (grid.full or held.layout.gap is not None):
        return False
    name = network.name(node)
    kernel: Any = mean_kernel(name, held.layout, grid)
    value = network.call(name, kernel, [held], plain((images * channels,)))
    network.values[node] = Held(value.var, plain(shape_of(node)))
    return True


def _all_pixels(node: fx.Node) -> bool:
    """Return whether a mean goes over both axes of pixels and no other."""
    if operator_name(node.target) == "adaptive_avg_pool2d":
        return shape_of(node)[2:] == (1, 1)
    axes = argument_of(node, 1, "dim")
    return isinstance(axes, list | tuple) and sorted(axis % 4 for axis in axes) == [2, 3]
