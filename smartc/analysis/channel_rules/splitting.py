"""Joining, splitting and indexing: labels are joined, split and indexed in the same way."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from smartc.analysis.channel_rules.registry import rule
from smartc.analysis.channels.labels import Declined, Factor, Labels, Site
from smartc.ir.traced_model import arguments_of, operator_name, stored_name, value_of

_ALONE = "takes a single channel out"
_POSITIONS = "takes them for positions"
_ROWS = "picks rows by values that are not constant"
_IN_PARTS = "joins a tensor whose channels are parted in another way"


@rule("cat")
def concatenate(site: Site, tensors: Sequence[Labels], dim: int = 0) -> Labels:
    """Concatenate labels along the axis and tie them along the others."""
    axis = dim % site.rank
    parts = [x for x in tensors if len(x.shape) == site.rank and x.shape[axis]]
    for x in parts:
        factor = x.along(axis)
        if factor is not None and len(factor.axes) > 1:
            return _concatenate_parts(site, parts, axis)
    flat = [Labels(_ones_at(x.shape, axis), tuple(f for f in x.factors if axis not in f.axes)) for x in parts]
    sites = Site(site.node, _ones_at(site.shape, axis), site.book)
    factors = sites.join(*flat).factors
    if all(x.along(axis) is None for x in parts):
        return Labels(site.shape, factors)
    arrays = [_labelled(site, x, axis) for x in parts]
    return Labels(site.shape, (*factors, Factor((axis,), np.concatenate(arrays))))


def _concatenate_parts(site: Site, parts: Sequence[Labels], axis: int) -> Labels:
    """Concatenate along an axis that holds a part of the channels, such as those of each head.

    Where all tensors have labels over the same axes, these are concatenated; else each is tied along the axis.
    """
    own = [x.along(axis) for x in parts]
    axes = {factor.axes if factor else () for factor in own}
    if len(axes) > 1:
        return concatenate(site, [site.uniform(x, [axis], _IN_PARTS) for x in parts], axis)
    shared = axes.pop()
    others = [
        Labels(_ones_at(x.shape, *shared), tuple(f for f in x.factors if f is not one))
        for x, one in zip(parts, own, strict=True)
    ]
    inner = Site(site.node, _ones_at(site.shape, *shared), site.book)
    joined = np.concatenate([factor.labels for factor in own if factor], axis=shared.index(axis))
    return Labels(site.shape, (*inner.join(*others).factors, Factor(shared, joined)))


@rule("stack")
def stack(site: Site, tensors: Sequence[Labels], dim: int = 0) -> Labels:
    """Tie all tensors; the new axis carries no channels."""
    axis = dim % site.rank
    moved = {old: old + (old >= axis) for old in range(site.rank - 1)}
    shape = _ones_at(site.shape, axis)
    inner = Site(site.node, shape, site.book)
    return Labels(site.shape, inner.join(*(x.renamed(moved, shape) for x in tensors)).factors)


@rule("split")
def split(site: Site, x: Labels, sizes: Any, dim: int = 0) -> tuple[Labels, ...]:
    """Split labels where the tensor is split."""
    starts = np.cumsum([0] + [value.shape[dim] for value in value_of(site.node)])
    return tuple(taken(site, x, dim, np.arange(begin, end)) for begin, end in itertools.pairwise(starts))


@rule("unbind")
def unbind(site: Site, x: Labels, dim: int = 0) -> tuple[Labels, ...]:
    """Select each index of an axis."""
    return tuple(select(site, x, dim, index) for index in range(x.shape[dim]))


@rule("slice")
def slice_axis(
    site: Site, x: Labels, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Labels:
    """Slice labels along the axis."""
    if operator_name(site.node.target) == "narrow":
        end = (start or 0) + (end or 0)
    return taken(site, x, dim, np.arange(x.shape[dim])[slice(start, end, step)])


@rule("select")
def select(site: Site, x: Labels, dim: int, index: int) -> Labels:
    """Keep the selected channel, and drop its axis."""
    axis = dim % len(x.shape)
    factors = []
    for factor in x.factors:
        if axis in factor.axes:
            place = factor.axes.index(axis)
            one = np.asarray(factor.labels.take(index, axis=place))
            if len(factor.axes) == 1:
                site.freeze(one, _ALONE)
                continue
            factor = Factor(tuple(a for a in factor.axes if a != axis), one)
        factors.append(Factor(tuple(a - (a > axis) for a in factor.axes), factor.labels))
    return Labels(site.shape, tuple(factors), x.weight)


@rule("index_select")
def index_select(site: Site, x: Labels, dim: int, index: Labels) -> Labels:
    """Gather labels where the index is a constant."""
    site.freeze_all(index, _POSITIONS)
    value = None if x.along(dim) is None else _constant(site, 2)
    if value is None:
        return Labels(site.shape, site.uniform(x, [dim], _ROWS).factors)
    return taken(site, x, dim, value)


@rule("index")
def index(site: Site, x: Labels, indices: Sequence[Labels | None]) -> Labels:
    """Gather labels where one axis is indexed by a constant vector; else keep all of the indexed axes."""
    site.freeze_all(indices, _POSITIONS)
    given = [axis for axis, one in enumerate(indices) if one is not None]
    if any(value_of(arguments_of(site.node)[1][axis]).dtype is torch.bool for axis in given):
        raise Declined("picks what a mask says")
    ranks = [len(one.shape) for one in indices if one is not None]
    if len(given) == 1 and ranks == [1] and x.along(given[0]) is not None:
        value = _constant(site, 1, given[0])
        if value is not None:
            return taken(site, x, given[0], value)
    left = site.uniform(x, given, _ROWS)
    # The positions stand where the indexed axes stood, or in front where these are apart.
    together = given[-1] - given[0] == len(given) - 1
    start, wide = (given[0] if together else 0), max(ranks)
    rest = [axis for axis in range(len(x.shape)) if axis not in given]
    moved = {axis: place + wide * (place >= start) for place, axis in enumerate(rest)}
    return Labels(site.shape, tuple(Factor(tuple(moved[a] for a in f.axes), f.labels) for f in left.factors))


@rule("gather")
def gather(site: Site, x: Labels, dim: int, index: Labels, *options: Any, **named: Any) -> Labels:
    """Pick along one axis, which stays, by positions of their own for every place of the others."""
    axis = dim % site.rank
    left = site.uniform(x, [axis], _ROWS)
    for other in range(site.rank):
        if other != axis and x.shape[other] != index.shape[other]:
            left = site.uniform(left, [other], _ROWS)
            index = site.uniform(index, [other], _ROWS)
    return site.join(replace(left, shape=_ones_at(left.shape, axis)), index)


@rule("slice_scatter")
def slice_scatter(
    site: Site, x: Labels, part: Labels, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Labels:
    """Write into a slice of an axis: what is written goes where the labels of the slice go."""
    if step != 1:
        x = site.uniform(x, [dim], "writes to every few of the channels")
    place = taken(site, x, dim, np.arange(x.shape[dim])[slice(start, end, step)])
    Site(site.node, part.shape, site.book).join(place, part)
    return Labels(site.shape, x.factors)


@rule("select_scatter")
def select_scatter(site: Site, x: Labels, part: Labels, dim: int, index: int) -> Labels:
    """Write at one index of an axis: what is written goes where the labels there go."""
    inner = Site(site.node, part.shape, site.book)
    inner.join(select(inner, x, dim, index), part)
    return Labels(site.shape, x.factors)


@rule("flip")
def flip(site: Site, x: Labels, dims: Sequence[int]) -> Labels:
    """Reverse labels along the axes."""
    for dim in dims:
        x = taken(site, x, dim, np.arange(x.shape[dim])[::-1])
    return x


@rule("roll")
def roll(site: Site, x: Labels, shifts: Any, dims: Any = ()) -> Labels:
    """Roll labels along the axes."""
    shifts, dims = np.atleast_1d(shifts), np.atleast_1d(dims)
    if not dims.size and x.factors:
        raise Declined("rolls over all axes at once")
    for shift, dim in zip(shifts, dims, strict=True):
        x = taken(site, x, int(dim), np.roll(np.arange(x.shape[dim]), shift))
    return x


@rule("getitem")
def getitem(site: Site, values: Any, place: int) -> Labels:
    """Pick one output of an operator that has several."""
    return values[place] if isinstance(values, (tuple, list)) else Labels(site.shape)


def taken(site: Site, x: Labels, dim: int, positions: np.ndarray[Any, Any]) -> Labels:
    """Return labels with positions of one axis taken in order; a single one is kept."""
    axis = dim % len(x.shape)
    shape = (*x.shape[:axis], len(positions), *x.shape[axis + 1 :])
    factors = []
    for factor in x.factors:
        if axis in factor.axes:
            labels = factor.labels.take(positions, axis=factor.axes.index(axis))
            if len(factor.axes) == 1 and len(positions) <= 1:
                site.freeze(labels, _ALONE)
                continue
            factor = Factor(factor.axes, labels)
            if len(positions) == 1:
                factor = Factor(tuple(a for a in factor.axes if a != axis), labels.squeeze(factor.axes.index(axis)))
        factors.append(factor)
    return Labels(shape, tuple(factors), x.weight)


def _labelled(site: Site, x: Labels, axis: int) -> np.ndarray[Any, Any]:
    """Return labels along an axis, new and frozen where there are none."""
    factor = x.along(axis)
    if factor is not None:
        return factor.labels
    labels = site.book.new(x.shape[axis])
    site.freeze(labels, "joins a tensor all of whose channels stay")
    return labels


def _constant(site: Site, place: int, axis: int | None = None) -> np.ndarray[Any, Any] | None:
    """Return the value of an index argument, None where it is no constant or a mask."""
    argument = arguments_of(site.node)[place]
    argument = argument if axis is None else argument[axis]
    value = site.book.constants.get(stored_name(argument))
    return None if value is None or value.dtype == bool else value


def _ones_at(shape: Sequence[int], *axes: int) -> tuple[int, ...]:
    """Return a shape with some axes of size one."""
    return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
