"""Views: another reading of the same buffer; where there is none, the tensor is copied to a plain one first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import fx

from smartc.ir.traced_model import argument_of, arguments_of
from smartc.kernels.inference.layout import Layout
from smartc.kernels.inference.network import Held, Network
from smartc.kernels.inference.rules import rule
from smartc.kernels.inference.windows import shape_of


def _put(network: Network, node: fx.Node, held: Held, layout: Layout) -> bool:
    """Give a node another reading of a tensor."""
    network.values[node] = replace(held, layout=layout)
    return True


@rule("dropout_", serves=lambda operator: operator.identity)
def same(network: Network, node: fx.Node) -> bool:
    """Pass a tensor on."""
    network.values[node] = network.held(arguments_of(node)[0])
    return True


@rule(serves=lambda operator: operator.rule in ("reshape", "squeeze"))
def reshape(network: Network, node: fx.Node) -> bool:
    """Read the same elements in another shape."""
    held, shape = network.held(arguments_of(node)[0]), shape_of(node)
    layout = held.layout.reshaped(shape)
    if layout is None:
        held = network.plain(held, node)
        layout = held.layout.reshaped(shape)
    return layout is not None and _put(network, node, held, layout)


@rule("permute")
def permute(network: Network, node: fx.Node) -> bool:
    """Read the axes in another order."""
    held = network.held(arguments_of(node)[0])
    count = len(held.layout.shape)
    return _put(network, node, held, held.layout.permuted([int(axis) % count for axis in arguments_of(node)[1]]))


@rule("transpose", "t")
def transpose(network: Network, node: fx.Node) -> bool:
    """Read two axes in each other's place."""
    held = network.held(arguments_of(node)[0])
    count = len(held.layout.shape)
    axes = list(range(count))
    first, second = (int(axis) % count for axis in (arguments_of(node)[1:3] or (0, 1)))
    axes[first], axes[second] = axes[second], axes[first]
    return _put(network, node, held, held.layout.permuted(axes))


@rule("select")
def select(network: Network, node: fx.Node) -> bool:
    """Read one index of an axis."""
    held = network.held(arguments_of(node)[0])
    axis = int(arguments_of(node)[1]) % len(held.layout.shape)
    index = int(arguments_of(node)[2]) % held.layout.shape[axis]
    return _put(network, node, held, held.layout.sliced(axis, index, 1).without(axis))


@rule("slice")
def slice_(network: Network, node: fx.Node) -> bool:
    """Read a part of an axis."""
    held, shape = network.held(arguments_of(node)[0]), shape_of(node)
    axis = int(argument_of(node, 1, "dim", 0)) % len(shape)
    start, step = int(argument_of(node, 2, "start") or 0), int(argument_of(node, 4, "step", 1))
    start = max(start + held.layout.shape[axis], 0) if start < 0 else min(start, held.layout.shape[axis])
    return _put(network, node, held, held.layout.sliced(axis, start, shape[axis], step))


@rule("chunk", "split", "split_with_sizes")
def split(network: Network, node: fx.Node) -> bool:
    """Read an axis in parts."""
    held = network.held(arguments_of(node)[0])
    sizes = [tuple(int(size) for size in part.shape) for part in node.meta["val"]]
    axis = int(argument_of(node, 2, "dim", 0)) % len(held.layout.shape)
    network.values[node] = _parts(held, axis, [shape[axis] for shape in sizes])
    return True


@rule("unbind")
def unbind(network: Network, node: fx.Node) -> bool:
    """Read each index of an axis by itself."""
    held = network.held(arguments_of(node)[0])
    axis = int(argument_of(node, 1, "dim", 0)) % len(held.layout.shape)
    parts = _parts(held, axis, [1] * held.layout.shape[axis])
    network.values[node] = tuple(replace(part, layout=part.layout.without(axis)) for part in parts)
    return True


@rule("getitem")
def item(network: Network, node: fx.Node) -> bool:
    """Take one of several tensors."""
    parts = network.values.get(arguments_of(node)[0])
    if not isinstance(parts, tuple):
        return False
    network.values[node] = parts[int(arguments_of(node)[1])]
    return True


@rule("expand", "expand_as")
def expand(network: Network, node: fx.Node) -> bool:
    """Read an axis of one element many times."""
    held, shape = network.held(arguments_of(node)[0]), shape_of(node)
    old = (1,) * (len(shape) - len(held.layout.shape)) + held.layout.shape
    strides = (0,) * (len(shape) - len(held.layout.shape)) + held.layout.strides
    fresh = tuple(0 if size == 1 else stride for size, stride in zip(old, strides, strict=True))
    return _put(network, node, held, replace(held.layout, shape=shape, strides=fresh, gap=None))


def _parts(held: Held, axis: int, sizes: Sequence[int]) -> tuple[Held, ...]:
    """Return consecutive parts of an axis."""
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    layouts = [held.layout.sliced(axis, start, size) for start, size in zip(starts, sizes, strict=True)]
    return tuple(replace(held, layout=layout) for layout in layouts)
