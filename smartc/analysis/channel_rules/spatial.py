"""Pooling, resizing and padding: they work on space and leave channels alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from smartc.analysis.channel_rules.registry import rule
from smartc.analysis.channels.labels import Declined, Factor, Labels, Site
from smartc.ir.traced_model import operator_name, operator_of, value_of

_POOLS = "works over an axis that carries channels"
_PADS = "pads an axis that carries channels"
_RANKS = {"spatial1d": 1, "spatial2d": 2, "spatial3d": 3}


@rule("spatial1d", "spatial2d", "spatial3d")
def spatial(site: Site, x: Labels, *options: Any, **named: Any) -> Any:
    """Pass the channels on; keep those on the axes worked over, the last ones, as many as the rule's name says."""
    rank = _RANKS[operator_of(site.node).rule]
    left = site.uniform(x, range(len(x.shape) - rank, len(x.shape)), _POOLS)
    labels = Labels(site.shape, left.factors)
    return (labels, labels) if isinstance(value_of(site.node), (tuple, list)) else labels


@rule("pad")
def pad(site: Site, x: Labels, padding: Sequence[int], *options: Any, **named: Any) -> Labels:
    """Give padding channels labels of their own; padding in space changes none."""
    operator = operator_name(site.node.target)
    modes = [option for option in (*options, *named.values()) if isinstance(option, str)]
    constant = operator == "constant_pad_nd" or (operator == "pad" and (modes or ["constant"]) == ["constant"])
    padded = [axis for axis in range(len(x.shape)) if any(_amounts(padding, len(x.shape) - 1 - axis))]
    # What is padded belongs to all of a head: it goes with the whole of it.
    inner = [axis for axis in padded if len(getattr(x.along(axis), "axes", ())) > 1]
    factors = []
    for factor in site.uniform(x, inner, _PADS).factors:
        for axis in factor.axes:
            before, after = _amounts(padding, len(x.shape) - 1 - axis)
            if before or after:
                if not constant or min(before, after) < 0:
                    raise Declined(_PADS)
                labels = [site.book.new(before), factor.labels, site.book.new(after)]
                factor = Factor(factor.axes, np.concatenate(labels))
        factors.append(factor)
    return Labels(site.shape, tuple(factors))


@rule("im2col")
def im2col(site: Site, x: Labels, kernel: Sequence[int], *options: Any) -> Labels:
    """Repeat each channel's label for every place of the kernel; places become columns."""
    left = site.uniform(x, [-1, -2], _POOLS)
    channels = site.sole(left, -3)
    own = () if channels is None else (Factor((site.rank - 2,), np.repeat(channels, math.prod(kernel))),)
    return Labels(site.shape, (*(f for f in left.factors if max(f.axes) < site.rank - 2), *own))


@rule("col2im")
def col2im(site: Site, x: Labels, size: Sequence[int], kernel: Sequence[int], *options: Any) -> Labels:
    """Make the rows of one channel, one for every place of the kernel, a unit."""
    left = site.uniform(x, [-1], _POOLS)
    rows = site.sole(left, -2)
    own: tuple[Factor, ...] = ()
    if rows is not None:
        parts = rows.reshape(-1, math.prod(kernel))
        site.tie(parts[:, :1], parts)
        own = (Factor((site.rank - 3,), parts[:, 0]),) if len(parts) > 1 else ()
    return Labels(site.shape, (*(f for f in left.factors if max(f.axes) < site.rank - 3), *own))


@rule("unfold")
def unfold(site: Site, x: Labels, dim: int, *options: Any) -> Labels:
    """Pass on the labels of all axes but that which is parted into windows."""
    return Labels(site.shape, site.uniform(x, [dim], _POOLS).factors)


@rule("grid_sample")
def grid_sample(site: Site, x: Labels, grid: Labels, *options: Any) -> Labels:
    """Pass the channels of the sampled tensor on, and tie what axis 0 carries: each of its indices has a grid.

    Shapes: sampled tensor (N, C, *space), grid (N, *output space, rank of the space).
    """
    x = site.uniform(x, range(2, len(x.shape)), _POOLS)
    grid = site.uniform(grid, range(1, len(grid.shape)), "takes them for positions")
    space = (1,) * (len(x.shape) - 2)
    sampled, of_grid = Labels((*x.shape[:2], *space), x.factors), Labels((grid.shape[0], 1, *space), grid.factors)
    return Labels(site.shape, site.join(sampled, of_grid).factors)


def _amounts(padding: Sequence[int], place: int) -> tuple[int, int]:
    """Return the padding before and after an axis; place counts axes from the last."""
    if 2 * place + 1 >= len(padding):
        return 0, 0
    return padding[2 * place], padding[2 * place + 1]
