"""Attention and layer norm where the tokens lie."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from torch import fx
from tvm import relax

from smartc.ir.traced_model import argument_of, arguments_of
from smartc.kernels.inference.attention import Attention, attention_kernel, layer_norm_kernel
from smartc.kernels.inference.layout import Layout, rounded
from smartc.kernels.inference.network import Held, Network
from smartc.kernels.inference.rules import rule
from smartc.kernels.inference.tokens import as_tokens, token_layout
from smartc.kernels.inference.windows import shape_of


@rule("scaled_dot_product_attention")
def attention(network: Network, node: fx.Node) -> bool:
    """Compute attention over tokens in runs."""
    query, key, value = (network.held(term) for term in arguments_of(node)[:3])
    shapes = [one.layout.shape for one in (query, key, value)]
    if any(len(shape) != 4 or shape[:2] != shapes[0][:2] for shape in shapes) or query.dtype != "float32":
        return False
    lanes = network.machine.lanes
    query = _in_runs(network, query, arguments_of(node)[0])
    mask = _mask(network, node, (shapes[0][0], shapes[0][1], shapes[0][2], shapes[1][2]))
    scale = argument_of(node, 6, "scale")
    images, heads, tokens, _ = shapes[0]
    length, channels = rounded(tokens, lanes), shapes[2][3]
    strides = (heads * channels * length, channels * length, 1, length)
    target = Layout((images, heads, tokens, channels), strides, 0, images * heads * channels * length)
    call = Attention(
        name=network.name(node),
        query=query.layout,
        key=key.layout,
        value=value.layout,
        target=target,
        mask=mask.layout if mask else None,
        scale=1 / math.sqrt(shapes[0][3]) if scale is None else float(scale),
    )
    arguments = [query, key, value, *([mask] if mask else [])]
    network.values[node] = network.call(call.name, attention_kernel(call, network.machine), arguments, target)
    return True


def _in_runs(network: Network, held: Held, node: fx.Node) -> Held:
    """Return a tensor (images, heads, tokens, channels) with its tokens in runs of whole vectors."""
    layout, lanes = held.layout, network.machine.lanes
    images, heads, tokens, channels = layout.shape
    length = rounded(tokens, lanes)
    last = layout.offset + sum((n - 1) * s for n, s in zip(layout.shape, layout.strides, strict=True) if s != 1)
    if (tokens == 1 or layout.strides[2] == 1) and last + length <= layout.size:
        return held
    strides = (heads * channels * length, channels * length, 1, length)
    return network.copied(held, Layout(layout.shape, strides, 0, images * heads * channels * length), node)


def _mask(network: Network, node: fx.Node, shape: tuple[int, int, int, int]) -> Held | None:
    """Return the mask that is added to the scores, queries in runs of whole vectors; None where there is none."""
    given = argument_of(node, 3, "attn_mask")
    if argument_of(node, 5, "is_causal", False):
        allowed = np.tril(np.ones(shape[2:], bool))
        held = network.taken(network.constant(np.where(allowed, 0, -np.inf).astype(np.float32)))
    elif given is None:
        return None
    else:
        held = network.plain(network.held(given), given)
        if held.dtype == "bool":
            low = relax.const(np.float32(-np.inf))
            chosen = relax.op.where(network.var(given), relax.const(np.float32(0)), low)
            held = network.taken(network.builder.emit(chosen))
    missing = 4 - len(held.layout.shape)
    sizes, steps = (1,) * missing + held.layout.shape, (0,) * missing + held.layout.strides
    seen = replace(held.layout, shape=(*sizes[:2], *shape[2:]), strides=_repeated(sizes, steps))
    images, heads, queries, keys = seen.shape
    length = rounded(queries, network.machine.lanes)
    strides = (heads * keys * length, keys * length, 1, length)
    target = Layout(seen.shape, strides, 0, images * heads * keys * length)
    copied = network.copied(Held(held.var, seen), target, node)
    steps = (strides[0] if images > 1 else 0, strides[1] if heads > 1 else 0, 1, length)
    return Held(copied.var, replace(target, shape=shape, strides=steps))


def _repeated(sizes: Any, steps: Any) -> tuple[int, ...]:
    """Return strides that repeat axes of one element."""
    return tuple(0 if size == 1 else step for size, step in zip(sizes, steps, strict=True))


@rule("layer_norm")
def layer_norm(network: Network, node: fx.Node) -> bool:
    """Normalise the last axis."""
    shape, held = shape_of(node), network.held(arguments_of(node)[0])
    if len(arguments_of(node)[1]) != 1 or held.dtype != "float32" or len(shape) < 2:
        return False
    weight, bias = network.array(argument_of(node, 2, "weight")), network.array(argument_of(node, 3, "bias"))
    channels = shape[-1]
    weight = np.ones(channels, np.float32) if weight is None else weight
    bias = np.zeros(channels, np.float32) if bias is None else bias
    source = as_tokens(network, held, node)
    name = network.name(node)
    kernel = layer_norm_kernel(name, source.layout, network.machine.lanes, float(argument_of(node, 4, "eps", 1e-5)))
    target = token_layout(shape, network.machine.lanes)
    arguments = [source, network.constant(weight), network.constant(bias)]
    network.values[node] = network.call(name, kernel, arguments, target)
    return True
