"""Labels of a view: axes are regrouped, and each group of axes is viewed by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from smartc.analysis.channels.labels import Factor, Labels, Merge, Site, spread

# A merged axis longer than this is left alone: its labels would fill the memory.
LONGEST_AXIS = 50_000_000
MERGES_BATCH = "merges channels with the batch"
MERGES_CHANNELS = "merges two axes that both carry channels"


def reshape(site: Site, x: Labels, shape: Sequence[int], whole: tuple[Sequence[int], Sequence[int]]) -> Labels:
    """Return the labels of ``x`` viewed in another shape of the same number of elements.

    Args:
        site: Where what is frozen is recorded.
        x: The labels of one sample.
        shape: The other shape, of one sample.
        whole: Both shapes with the batch.
    """
    groups = _reshape_groups(*whole)
    regrouped = [group for group in groups if not len(group[0]) == len(group[1]) == 1]
    factors = list(x.factors)
    for before, after in regrouped:
        if not _one_sample_in_order(before, after, whole, (x.shape, shape)):
            for factor in [factor for factor in factors if set(factor.axes) & set(before)]:
                site.freeze(factor.labels, MERGES_BATCH)
                factors.remove(factor)
    found: list[Factor] = []
    for cluster in _clusters(factors, [before for before, _ in regrouped]):
        carried = [one for factor in cluster for one in _carried(site, factor, groups, x.shape, shape)]
        found += carried if len(carried) < 2 else [_one_of(site, carried, shape, x.weight)]
    return Labels(tuple(shape), tuple(found), x.weight)


def _clusters(factors: list[Factor], regrouped: list[list[int]]) -> list[list[Factor]]:
    """Return the factors by which of them a regrouping brings together, the outermost first."""
    clusters = [[factor] for factor in sorted(factors, key=lambda factor: factor.axes)]
    for axes in regrouped:
        meeting = [one for one in clusters if any(set(factor.axes) & set(axes) for factor in one)]
        if meeting:
            clusters = [one for one in clusters if one not in meeting] + [[f for one in meeting for f in one]]
    return clusters


def _one_of(site: Site, factors: list[Factor], shape: Sequence[int], weight: bool) -> Factor:
    """Return new labels over all axes of several factors, which will follow one of these; of a weight, the longest."""
    if weight:
        factors.sort(key=lambda factor: np.unique(factor.labels).size)
        for factor in factors[:-1]:
            site.freeze(factor.labels, MERGES_CHANNELS)
        return factors[-1]
    axes = tuple(sorted({axis for factor in factors for axis in factor.axes}))
    sizes = [shape[axis] for axis in axes]
    labels = site.book.new(math.prod(sizes)).reshape(sizes)
    site.book.merges.append(Merge(labels, tuple(spread(factor, axes) for factor in factors), site.book.place))
    return Factor(axes, labels)


def _one_sample_in_order(
    before: list[int], after: list[int], whole: tuple[Sequence[int], Sequence[int]], single: tuple[Any, Any]
) -> bool:
    """Return whether a group of axes has the batch nowhere, or outermost on both sides."""
    for axes, with_batch, sample in zip((before, after), whole, single, strict=True):
        batched = [place for place, axis in enumerate(axes) if with_batch[axis] != sample[axis]]
        if batched not in ([], [0]):
            return False
    return True


def _carried(
    site: Site, factor: Factor, groups: list[tuple[list[int], list[int]]], old: Sequence[int], new: Sequence[int]
) -> list[Factor]:
    """Return a factor on the axes of all groups that it has a part in."""
    touched = [(before, after) for before, after in groups if set(before) & set(factor.axes)]
    before, after = ([axis for group in touched for axis in group[side]] for side in (0, 1))
    if all(len(one) == len(other) == 1 for one, other in touched):
        return [Factor(tuple(after), factor.labels)]
    sizes = [old[axis] for axis in before]
    if math.prod(sizes) > LONGEST_AXIS:
        site.freeze(factor.labels, "merges the channels into a very long axis")
        return []
    full = np.broadcast_to(spread(factor, tuple(before)), sizes)
    return [_squeezed(Factor(tuple(after), full.reshape([new[axis] for axis in after])))]


def _squeezed(factor: Factor) -> Factor:
    """Drop the axes along which a factor does not vary."""
    labels, axes = factor.labels, list(factor.axes)
    for place in reversed(range(len(axes))):
        first = labels.take([0], axis=place)
        if labels.shape[place] == 1 or np.array_equal(np.broadcast_to(first, labels.shape), labels):
            labels = first.squeeze(place)
            axes.pop(place)
    return Factor(tuple(axes), np.ascontiguousarray(labels))


def _reshape_groups(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
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
