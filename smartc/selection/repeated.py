"""Which channel groups stand at the same place of repeated blocks, as the hidden units of every ``layers.N.mlp`` do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from smartc.analysis.channels.channel_groups import FROZEN, ChannelGroups
from smartc.analysis.channels.labels import IntArray
from smartc.masks.layouts import BoolArray

_PARTS = re.compile(r"\d+|[^\d.]+|\.")
# An axis that a group touches: the tensor's name, the axis, the role, and how many of its indices are the group's.
_Place = tuple[str, int, str, int]


def alike(groups: ChannelGroups) -> IntArray:
    """Return a number for each group: the same for groups of one size that touch tensors of the same shapes and names.

    The numbers in the part that the names of all tensors of a group begin with do not count: they tell which block it
    is.
    """
    touched: list[list[_Place]] = [[] for _ in groups.groups]
    group_of = groups.group_of
    for axis in groups.axes:
        inside = group_of[axis.units[axis.units != FROZEN]]
        for group, count in zip(*np.unique(inside, return_counts=True), strict=True):
            touched[group].append((axis.name, axis.axis, f"{axis.role} {len(axis.units)}", int(count)))
    keys = [
        (len(group), group.weight, *_without_block(places))
        for group, places in zip(groups.groups, touched, strict=True)
    ]
    numbers: dict[tuple[object, ...], int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def evened(groups: ChannelGroups, keep: BoolArray) -> BoolArray:
    """Return flags by which groups that are alike keep as many units as the one of them that keeps the most."""
    more, numbers = keep.copy(), alike(groups)
    for number in np.unique(numbers):
        members = [groups.groups[index].units for index in np.flatnonzero(numbers == number)]
        most = max(int(keep[units].sum()) for units in members)
        for units in members:
            removed = units[~keep[units]]
            more[removed[: most - int(keep[units].sum())]] = True
    return more


def with_alike(groups: ChannelGroups, chosen: Iterable[int]) -> list[int]:
    """Return some groups by their numbers, and all that are like them."""
    numbers = alike(groups)
    return np.flatnonzero(np.isin(numbers, numbers[list(chosen)])).tolist()


def repeats_told(groups: ChannelGroups) -> str:
    """Return a sentence on how many groups are alike."""
    numbers = alike(groups)
    sizes = np.bincount(numbers) if len(numbers) else np.zeros(0, dtype=np.int64)
    repeated = sizes[sizes > 1]
    if not len(repeated):
        return "no blocks repeat, so that no widths had to be the same"
    widths = "one width" if len(repeated) == 1 else f"{len(repeated)} widths"
    return f"repeated blocks are as wide as one another: {int(repeated.sum())} groups of channels have {widths}"


def _without_block(places: Sequence[_Place]) -> tuple[_Place, ...]:
    """Return what a group touches, in order, without the numbers of its block."""
    names = [_PARTS.findall(name) for name, *_ in places]
    differs = [len(set(parts)) > 1 for parts in zip(*names, strict=False)]
    shared = differs.index(True) if True in differs else len(differs)
    plain = ("".join(["N" if part.isdigit() else part for part in name[:shared]] + name[shared:]) for name in names)
    return tuple(sorted((name, *place[1:]) for name, place in zip(plain, places, strict=True)))
