"""Joining, splitting and indexing: labels are joined, split and indexed in the same way."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from smartc.analysis.channel_rules.registry import rule
from smartc.analysis.channels.labels import Declined, Factor, Labels, Site
from smartc.ir.traced_model import arguments_of, operator_name, stored_name, value_of

_ALONE = "takes a single channel out"


@rule("cat")
def concatenate(site: Site, tensors: Sequence[Labels], dim: int = 0) -> Labels:
    """Concatenate labels along the axis and tie them along the others."""
    axis = dim % site.rank
    parts = [x for x in tensors if len(x.shape) == site.rank]
    for x in parts:
        factor = x.along(axis)
        if factor is not None and len(factor.axes) > 1:
            raise Declined("joins tensors along a part of the channels")
    flat = [Labels(_ones_at(x.shape, axis), tuple(f for f in x.factors if axis not in f.axes)) for x in parts]
    sites = Site(site.node, _ones_at(site.shape, axis), site.book)
    factors = sites.join(*flat).factors
    if all(x.along(axis) is None for x in parts):
        return Labels(site.shape, factors)
    arrays = [_labelled(site, x, axis) for x in parts]
    return Labels(site.shape, (*factors, Factor((axis,), np.concatenate(arrays))))


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
    site.freeze_all(index, "takes them for positions")
    if x.along(dim) is None:
        return Labels(site.shape, x.factors)
    return taken(site, x, dim, _constant(site, 2))


@rule("index")
def index(site: Site, x: Labels, indices: Sequence[Labels | None]) -> Labels:
    """Gather labels where one axis is indexed by a constant vector."""
    site.freeze_all(indices, "takes them for positions")
    given = [(axis, len(one.shape)) for axis, one in enumerate(indices) if one is not None]
    if len(given) != 1 or given[0][1] != 1:
        raise Declined("is indexed by more than one vector")
    axis = given[0][0]
    if x.along(axis) is None:
        return Labels(site.shape, x.factors)
    return taken(site, x, axis, _constant(site, 1, axis))


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
            if len(positions) <= 1:
                site.freeze(labels, _ALONE)
                continue
            factor = Factor(factor.axes, labels)
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


def _constant(site: Site, place: int, axis: int | None = None) -> np.ndarray[Any, Any]:
    """Return the value of a constant index argument."""
    argument = arguments_of(site.node)[place]
    argument = argument if axis is None else argument[axis]
    value = site.book.constants.get(stored_name(argument))
    if value is None or value.dtype == bool:
        raise Declined("picks channels by values that are not constant")
    return value


def _ones_at(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    """Return a shape with one axis of size one."""
    return (*shape[:axis], 1, *shape[axis + 1 :])
