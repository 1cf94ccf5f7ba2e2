"""Labels of a view: axes are regrouped, and each group of axes is viewed by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from smartc.analysis.channels.labels import Factor, Labels, Site, spread

# A merged axis longer than this is left alone: its labels would fill the memory.
LONGEST_AXIS = 50_000_000


def reshape(site: Site, x: Labels, shape: Sequence[int]) -> Labels:
    """Return the labels of ``x`` viewed in another shape of the same number of elements."""
    groups = _reshape_groups(x.shape, tuple(shape))
    factors: list[Factor] = []
    for before, after in groups:
        factors += _reshape_group(site, x, before, tuple(after), shape)
    for factor in x.factors:
        if not any(set(factor.axes) <= set(before) for before, _ in groups):
            factors += _carry_spanning(site, factor, groups)
    return Labels(tuple(shape), tuple(factors), x.weight)


def _reshape_group(
    site: Site, x: Labels, before: list[int], after: tuple[int, ...], shape: Sequence[int]
) -> list[Factor]:
    """Return the factors of one group of axes that is viewed as another group."""
    inside = [factor for factor in x.factors if set(factor.axes) <= set(before)]
    if not inside:
        return []
    if len(before) == len(after) == 1:
        return [Factor(after, inside[0].labels)]
    inside.sort(key=lambda factor: factor.labels.size)
    for factor in inside[:-1]:
        site.freeze(factor.labels, "merges two axes that both carry channels")
    sizes = [x.shape[axis] for axis in before]
    if math.prod(sizes) > LONGEST_AXIS:
        site.freeze(inside[-1].labels, "merges the channels into a very long axis")
        return []
    full = np.broadcast_to(spread(inside[-1], tuple(before)), sizes)
    return [_squeezed(Factor(after, full.reshape([shape[axis] for axis in after])))]


def _carry_spanning(site: Site, factor: Factor, groups: list[tuple[list[int], list[int]]]) -> list[Factor]:
    """Carry a factor over several groups if each of its axes stays itself; freeze it otherwise."""
    moved = {before[0]: after[0] for before, after in groups if len(before) == len(after) == 1}
    if all(axis in moved for axis in factor.axes):
        return [Factor(tuple(moved[axis] for axis in factor.axes), factor.labels)]
    site.freeze(factor.labels, "regroups axes that carry channels together")
    return []


def _squeezed(factor: Factor) -> Factor:
    """Drop the axes along which a factor does not vary."""
    labels, axes = factor.labels, list(factor.axes)
    for place in reversed(range(len(axes))):
        first = labels.take([0], axis=place)
        if labels.shape[place] == 1 or np.array_equal(np.broadcast_to(first, labels.shape), labels):
            labels = first.squeeze(place)
            axes.pop(place)
    return Factor(tuple(axes), np.ascontiguousarray(labels))


def _reshape_groups(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Return the smallest groups of axes of equal product, axes of size one left out."""
    left = [axis for axis, size in enumerate(before) if size != 1]
    right = [axis for axis, size in enumerate(after) if size != 1]
    groups: list[tuple[list[int], list[int]]] = []
    while left and right:
        one, other = [left.pop(0)], [right.pop(0)]
        a, b = before[one[0]], after[other[0]]
        while a != b:
            if a < b:
                one.append(left.pop(0))
                a *= before[one[-1]]
            else:
                other.append(right.pop(0))
                b *= after[other[-1]]
        groups.append((one, other))
    return groups
