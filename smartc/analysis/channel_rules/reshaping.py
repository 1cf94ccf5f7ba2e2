"""Views and permutations: labels are viewed and permuted in the same way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from smartc.analysis.channel_rules.registry import rule
from smartc.analysis.channels.labels import Declined, Factor, Labels, Site
from smartc.analysis.channels.reshape_labels import reshape
from smartc.ir.traced_model import arguments_of, value_of


@rule("reshape", "squeeze")
def view(site: Site, x: Labels, *sizes: Any) -> Labels:
    """View labels in the output's shape."""
    if math.prod(x.shape) != math.prod(site.shape):
        raise Declined("changes the size of elements")
    return _viewed(site, x)


@rule("view_as")
def view_as(site: Site, x: Labels, other: Labels) -> Labels:
    """View labels in the shape of another tensor, and tie them to its."""
    return site.join(_viewed(site, x), other)


@rule("permute")
def permute(site: Site, x: Labels, dims: Sequence[int]) -> Labels:
    """Permute axes."""
    rank = len(x.shape)
    return x.renamed({old % rank: new for new, old in enumerate(dims)}, site.shape)


@rule("transpose")
def transpose(site: Site, x: Labels, first: int, second: int) -> Labels:
    """Exchange two axes."""
    order = list(range(len(x.shape)))
    order[first], order[second] = order[second], order[first]
    return permute(site, x, order)


@rule("matrix_transpose")
def matrix_transpose(site: Site, x: Labels) -> Labels:
    """Exchange the two axes of a matrix."""
    return permute(site, x, list(range(len(x.shape)))[::-1])


@rule("movedim")
def movedim(site: Site, x: Labels, source: Any, destination: Any) -> Labels:
    """Move axes."""
    rank = len(x.shape)
    sources = [axis % rank for axis in np.atleast_1d(source).tolist()]
    targets = [axis % rank for axis in np.atleast_1d(destination).tolist()]
    order = [axis for axis in range(rank) if axis not in sources]
    for target, origin in sorted(zip(targets, sources, strict=True)):
        order.insert(target, origin)
    return permute(site, x, order)


@rule("expand")
def expand(site: Site, x: Labels, sizes: Sequence[int], **options: Any) -> Labels:
    """Give axes that are stretched to a written size labels of their own."""
    shift = site.rank - len(x.shape)
    moved = x.renamed({axis: axis + shift for axis in range(len(x.shape))}, site.shape)
    stretched = [
        axis
        for axis, size in enumerate(sizes)
        if isinstance(size, int) and size > 1 and (axis < shift or x.shape[axis - shift] == 1)
    ]
    return Labels(site.shape, (*moved.factors, *site.fresh(site.shape, stretched).factors))


@rule("repeat")
def repeat(site: Site, x: Labels, counts: Sequence[int]) -> Labels:
    """Repeat labels as often as the tensor."""
    shift = site.rank - len(x.shape)
    counts = [1] * (site.rank - len(counts)) + list(counts)
    factors = []
    for factor in x.factors:
        axes = tuple(axis + shift for axis in factor.axes)
        factors.append(Factor(axes, np.tile(factor.labels, [int(counts[axis]) for axis in axes])))
    return Labels(site.shape, tuple(factors))


@rule("repeat_interleave")
def repeat_interleave(site: Site, x: Labels, times: Any, dim: int | None = None, **options: Any) -> Labels:
    """Repeat each label in place."""
    if dim is None or not isinstance(times, int):
        raise Declined("repeats channels by values that are not constant")
    factors = []
    for factor in x.factors:
        if dim % len(x.shape) in factor.axes:
            place = factor.axes.index(dim % len(x.shape))
            factor = Factor(factor.axes, np.repeat(factor.labels, times, axis=place))
        factors.append(factor)
    return Labels(site.shape, tuple(factors))


@rule("pixel_shuffle")
def pixel_shuffle(site: Site, x: Labels, factor: int) -> Labels:
    """Make the channels that become one output channel a unit."""
    x = site.uniform(x, [-1, -2], "spreads channels over an axis that carries channels")
    channels = site.sole(x, -3)
    if channels is None:
        return _on_channels(site, x, None)
    rows = channels.reshape(-1, factor * factor)
    site.tie(rows[:, :1], rows)
    return _on_channels(site, x, rows[:, 0])


@rule("pixel_unshuffle")
def pixel_unshuffle(site: Site, x: Labels, factor: int) -> Labels:
    """Repeat each channel's label for every pixel that becomes a channel."""
    x = site.uniform(x, [-1, -2], "gathers an axis that carries channels")
    channels = site.sole(x, -3)
    return _on_channels(site, x, None if channels is None else np.repeat(channels, factor * factor))


def _viewed(site: Site, x: Labels) -> Labels:
    """Return the labels of the first argument in the output's shape."""
    return reshape(site, x, site.shape, (value_of(arguments_of(site.node)[0]).shape, value_of(site.node).shape))


def _on_channels(site: Site, x: Labels, labels: np.ndarray[Any, Any] | None) -> Labels:
    """Return labels on the third axis from the end, and those of the axes before it."""
    axis = site.rank - 3
    own = (Factor((axis,), labels),) if labels is not None and len(labels) > 1 else ()
    return Labels(site.shape, (*(f for f in x.factors if max(f.axes) < axis), *own))
