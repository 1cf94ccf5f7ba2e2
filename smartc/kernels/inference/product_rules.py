"""Products of two computed tensors and softmax, where attention is spelled out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from torch import fx

from smartc.ir.traced_model import argument_of, arguments_of
from smartc.kernels.inference.layout import Layout, plain, rounded
from smartc.kernels.inference.network import Held, Network
from smartc.kernels.inference.products import Product, product_kernel, softmax_kernel
from smartc.kernels.inference.rules import rule
from smartc.kernels.inference.windows import shape_of


@rule(serves=lambda operator: operator.rule == "product")
def product(network: Network, node: fx.Node) -> bool:
    """Multiply matrices, as many as up to two axes count."""
    first, second = arguments_of(node)[:2]
    shape, counts = shape_of(node), [len(shape_of(term)) for term in (first, second)]
    if not 2 <= len(shape) <= 4 or min(counts) < 2 or any(network.held(n).dtype != "float32" for n in (first, second)):
        return False
    matrices = (1,) * (4 - len(shape)) + shape[:-2]
    left = _repeated(network.held(first), matrices)
    right = _repeated(_in_runs(network, network.held(second), second), matrices)
    layout = _runs(shape, network.machine.lanes)
    target = _repeated(Held(None, layout), matrices).layout
    call = Product(network.name(node), left.layout, right.layout, target)
    value = network.call(call.name, product_kernel(call, network.machine), [left, right], target)
    network.values[node] = Held(value.var, layout)
    return True


def _repeated(held: Held, matrices: Sequence[int]) -> Held:
    """Return matrices with two axes that count them, an axis of one element repeated."""
    missing = 4 - len(held.layout.shape)
    sizes, steps = (1,) * missing + held.layout.shape, (0,) * missing + held.layout.strides
    strides = tuple(0 if size == 1 else step for size, step in zip(sizes[:2], steps[:2], strict=True))
    layout = replace(held.layout, shape=(*matrices, *sizes[2:]), strides=(*strides, *steps[2:]), gap=None)
    return replace(held, layout=layout)


def _runs(shape: tuple[int, ...], lanes: int) -> Layout:
    """Return the layout of a tensor whose last axis is in runs of whole vectors."""
    length = rounded(shape[-1], lanes)
    padded = plain((*shape[:-1], length))
    return replace(padded, shape=shape, strides=(*padded.strides[:-1], 1))


def _in_runs(network: Network, held: Held, node: fx.Node) -> Held:
    """Return a tensor with its last axis in runs of whole vectors, copied if need be."""
    layout, lanes = held.layout, network.machine.lanes
    last = layout.offset + sum(
        (size - 1) * step for size, step in zip(layout.shape[:-1], layout.strides[:-1], strict=True)
    )
    if layout.strides[-1] == 1 and last + rounded(layout.shape[-1], lanes) <= layout.size:
        return held
    return network.copied(held, _runs(layout.shape, lanes), node)


@rule("softmax")
def softmax(network: Network, node: fx.Node) -> bool:
    """Take the softmax over the last axis."""
    shape, held = shape_of(node), network.held(arguments_of(node)[0])
    if held.dtype != "float32" or int(argument_of(node, 1, "dim")) % len(shape) != len(shape) - 1:
        return False
    name = network.name(node)
    kernel = softmax_kernel(name, math.prod(shape[:-1]), shape[-1], network.machine.lanes)
    network.values[node] = network.call(name, kernel, [network.plain(held, node)], plain(shape))
    return True
