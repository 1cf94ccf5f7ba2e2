"""Tokens in the layout of the kernels: each channel's tokens in one run, as if they were a row of pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from torch import fx

from smartc.kernels.inference.layout import Grid, Layout, plain_strides
from smartc.kernels.inference.maps import fits
from smartc.kernels.inference.network import Held, Network


def token_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """Return images, tokens of an image and channels of a tensor whose last axis is channels."""
    images = shape[0] if len(shape) > 2 else 1
    return images, math.prod(shape[:-1]) // images, shape[-1]


def token_grid(shape: Sequence[int], lanes: int) -> Grid:
    """Return the grid that holds the tokens of a tensor whose last axis is channels."""
    return Grid(1, token_shape(shape)[1], 0, lanes)


def token_layout(shape: Sequence[int], lanes: int) -> Layout:
    """Return the layout of tokens for a tensor whose last axis is channels."""
    images, _, channels = token_shape(shape)
    grid = token_grid(shape, lanes)
    inner = plain_strides(shape[1:-1]) if len(shape) > 2 else ()
    first = channels * grid.length if len(shape) > 2 else 1
    return Layout(tuple(shape), (first, *inner, grid.length), 0, images * channels * grid.length)


def as_map(layout: Layout) -> Layout | None:
    """Return tokens as a map (images, channels, 1, tokens), or None where they are not in runs."""
    images, tokens, channels = token_shape(layout.shape)
    joined = layout.reshaped((images, tokens, channels))
    if joined is None or (tokens > 1 and joined.strides[1] != 1):
        return None
    return replace(
        joined, shape=(images, channels, 1, tokens), strides=(joined.strides[0], joined.strides[2], tokens, 1)
    )


def as_tokens(network: Network, held: Held, node: fx.Node) -> Held:
    """Return a tensor as a map (images, channels, 1, tokens), copied if need be; the node names the copy."""
    lanes = network.machine.lanes
    seen = as_map(held.layout)
    if seen is not None and fits(seen, token_grid(held.layout.shape, lanes)):
        return Held(held.var, seen)
    key = (held.var, held.layout, "tokens")
    if key not in network.copies:
        network.copies[key] = network.copied(held, token_layout(held.layout.shape, lanes), node)
    copied = network.copies[key]
    seen = as_map(copied.layout)
    assert seen is not None
    return Held(copied.var, seen)
