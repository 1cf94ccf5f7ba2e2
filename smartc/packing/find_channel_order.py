"""Search for an order of channels that gathers the weights that are not zero into fewer tiles of a target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from smartc.analysis.channels.channel_groups import FROZEN, ChannelGroups
from smartc.analysis.channels.labels import IntArray
from smartc.analysis.live_tiles import any_of_runs, live_tiles
from smartc.analysis.weight_use import WeightUse, weight_use
from smartc.ir.traced_model import Remark, TracedModel, storage_key
from smartc.packing.find_free_groups import find_free_groups
from smartc.packing.gather_rows import gather_rows
from smartc.passes.permute_channels import moved_places, whole_order
from smartc.targets.target import Target

_Flags = np.ndarray[Any, np.dtype[np.bool_]]

# The order of one group changes what is best for those that share a weight with it; later rounds gain little.
_ROUNDS = 3


@dataclass(frozen=True, eq=False)
class ChannelOrder:
    """An order of channels and what it gains.

    Attributes:
        order: Which unit comes to the place of each unit, as ``PermuteChannels`` takes it.
        before: Live tiles of all weights as they are.
        after: Live tiles in the new order; never more.
        remarks: The gain of each group that moves, and why others cannot.
    """

    order: IntArray
    before: int
    after: int
    remarks: tuple[Remark, ...]


@dataclass(eq=False)
class _Weight:
    """A weight in the search.

    Attributes:
        use: How it is multiplied by.
        live: Which of its elements are not zero, in the order reached so far.
        units: The units of its first two axes, FROZEN where an index stays.
        tiles: Its live tiles.
        moves: How often its channels have changed places.
    """

    use: WeightUse
    live: torch.Tensor
    units: tuple[IntArray, IntArray]
    tiles: int
    moves: int = 0


def find_channel_order(model: TracedModel, groups: ChannelGroups, target: Target) -> ChannelOrder:
    """Return an order with as few live tiles as a greedy search finds, group by group.

    A group keeps its order unless another has fewer live tiles in all weights that it touches.
    """
    weights = _weights(model, groups, target)
    by_group, before = _by_group(weights, groups), sum(weight.tiles for weight in weights)
    free = find_free_groups(model, groups)
    orders: dict[int, IntArray] = {}
    gains: dict[int, int] = {}
    seen: dict[int, list[int]] = {}
    for index in free.free * _ROUNDS:
        touched = by_group[index]
        # What a search has found holds until another group moves channels of the same weights.
        if seen.get(index) != [weight.moves for weight in touched]:
            members, gain = _improve(touched, groups, index, target)
            orders[index] = orders.get(index, np.arange(len(members)))[members]
            gains[index] = gains.get(index, 0) + gain
            seen[index] = [weight.moves for weight in touched]
    gains = {index: gain for index, gain in gains.items() if gain}
    remarks = [Remark(groups.groups[index].name, f"{gain} fewer live tiles", True) for index, gain in gains.items()]
    remarks += [Remark(groups.groups[index].name, f"keeps its order: {why}") for index, why in free.reasons.items()]
    after = sum(weight.tiles for weight in weights)
    return ChannelOrder(whole_order(groups, orders), before, after, tuple(remarks))


def _weights(model: TracedModel, groups: ChannelGroups, target: Target) -> list[_Weight]:
    """Return each weight that has zeros or touches a group, once."""
    units = {(axis.name, axis.axis): axis.units for axis in groups.axes}
    owner = {storage_key(model.tensor(axis.name)): axis.name for axis in groups.axes}
    weights: dict[Any, _Weight] = {}
    for node in model.calls():
        use = weight_use(model, node)
        if use is None:
            continue
        tensor = model.tensor(use.name).detach()
        key = storage_key(tensor)
        if key not in weights:
            name, live = owner.get(key, use.name), (tensor != 0).cpu()
            frozen = [np.full(tensor.shape[axis], FROZEN, dtype=np.int64) for axis in (0, 1)]
            first, second = (units.get((name, axis), frozen[axis]) for axis in (0, 1))
            weights[key] = _Weight(use, live, (first, second), _count(use, live, target))
    return list(weights.values())


def _count(use: WeightUse, live: torch.Tensor, target: Target) -> int:
    """Return the live tiles of a weight."""
    return live_tiles(live, target, groups=use.groups, transposed=use.transposed)


def _by_group(weights: list[_Weight], groups: ChannelGroups) -> list[list[_Weight]]:
    """Return for each group the weights that have channels of it."""
    found: list[list[_Weight]] = [[] for _ in groups.groups]
    of = np.append(groups.group_of, FROZEN)
    for weight in weights:
        for index in np.unique(of[np.concatenate(weight.units)]):
            if index != FROZEN:
                found[index].append(weight)
    return found


def _improve(touched: list[_Weight], groups: ChannelGroups, index: int, target: Target) -> tuple[IntArray, int]:
    """Put one group in a better order, in place; return it and the tiles saved, or the same order and 0."""
    units = groups.groups[index].units
    patterns = [pattern for weight in touched for pattern in _patterns(weight, units, target)]
    same = np.arange(len(units))
    if not patterns:
        return same, 0
    members = gather_rows(np.concatenate(patterns, axis=1), max(target.array.rows, target.array.cols))
    if np.array_equal(members, same):
        return same, 0
    order = whole_order(groups, {index: members})
    moved = [_moved(weight, order) for weight in touched]
    tiles = [_count(weight.use, live, target) for weight, live in zip(touched, moved, strict=True)]
    gain = sum(weight.tiles for weight in touched) - sum(tiles)
    if gain <= 0:
        return same, 0
    for weight, live, count in zip(touched, moved, tiles, strict=True):
        weight.live, weight.tiles, weight.moves = live, count, weight.moves + 1
    return members, gain


def _moved(weight: _Weight, order: IntArray) -> torch.Tensor:
    """Return a flag for each element, true where it is not zero once units have changed places."""
    live = weight.live
    for axis, units in enumerate(weight.units):
        places = moved_places(units, order)
        if (places != np.arange(len(places))).any():
            live = live.index_select(axis, torch.from_numpy(places))
    return live


def _patterns(weight: _Weight, units: IntArray, target: Target) -> Iterator[_Flags]:
    """Yield, for each axis that holds some units, the tiles that each of them makes live, shape (units, tiles).

    The tiles are those across the axis: along it, they depend on the order that is sought.
    """
    rows, cols = target.array.rows, target.array.cols
    for axis in (0, 1):
        held = np.isin(weight.units[axis], units)
        count = int(held.sum()) // len(units)
        if not count:
            continue
        across = rows if (axis == 0) != weight.use.transposed else cols
        indices = np.flatnonzero(held)
        places = indices[np.argsort(weight.units[axis][indices], kind="stable")].reshape(len(units), count)
        if count > 1 and places[0, 1] == places[0, 0] + 1:
            continue  # a unit's indices lie side by side and fill tiles of their own in any order
        for copy in places.T:
            live = np.moveaxis(weight.live.numpy().take(copy, axis=axis), axis, 0)
            yield _across(live, axis, weight.use.groups, across, target)


def _across(live: _Flags, axis: int, groups: int, size: int, target: Target) -> _Flags:
    """Return a flag for each tile across an axis, true where it holds something, shape (units, tiles).

    Args:
        live: Shape (units, other channels, *kernel).
        axis: Which axis of the weight the units lie on; the other one is cut into groups if it is the first.
        groups: Of the convolution.
        size: Channels of a tile along the other axis.
        target: Says whether kernel positions share their zeros.
    """
    parts = groups if axis == 1 else 1
    seen: _Flags = live.reshape(len(live) * parts, live.shape[1] // parts, -1)
    if not target.sparsity.per_kernel_position:
        seen = np.logical_or.reduce(seen, axis=2, keepdims=True)
    return any_of_runs(seen, 1, size).reshape(len(live), -1)
