"""What a search for kept counts works on: the counts that each group may keep, their scores and their costs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from smartc.analysis.channels.channel_groups import ChannelGroups
from smartc.analysis.channels.labels import IntArray
from smartc.analysis.find_layers import Layers
from smartc.selection.tile_steps import TileStep, tile_steps
from smartc.targets.latency import LayerCosts, Measure
from smartc.targets.target import Target

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

# Costs are sums of floats; differences below this share are rounding.
SAME_COST = 1e-11
# Up to this many choices are all tried, so that small networks get the best one.
EXHAUSTIVE = 2000


@dataclass(frozen=True, eq=False)
class KeptOptions:
    """Everything that a search for kept counts needs.

    Attributes:
        layers: The model's layers with its channel groups.
        target: The device.
        scores: Importance per unit.
        measure: What a choice costs: cycles, multiply-accumulates, or bytes of weights as the target
            stores them.
    """

    layers: Layers
    target: Target
    scores: FloatArray
    measure: Measure = "latency"

    @property
    def groups(self) -> ChannelGroups:
        """Return the channel groups."""
        return self.layers.groups

    @property
    def each_group(self) -> KeptOptions:
        """Return the search in which each group keeps a count of its own."""
        return self

    @property
    def told(self) -> str:
        """Return a sentence on what the counts have to be beside within the budget, if there is anything."""
        return ""

    def spread(self, kept: IntArray) -> IntArray:
        """Return the count of each group from what the search counts."""
        return kept

    def neighbours(self, group: int) -> IntArray:
        """Return the groups that touch a layer that a group touches, itself among them."""
        return self.layers.touched.neighbours(group)

    @cached_property
    def guide(self) -> KeptOptions:
        """Return the search whose costs say which channels go first on the way to a budget.

        That is this one, but MACs are met where leaving them out saves the most time, if the target knows its
        times well.
        """
        if self.measure == "macs" and self.target.guides_by_time:
            return replace(self, measure="latency")
        return self

    @cached_property
    def full(self) -> IntArray:
        """Return the number of units of each group."""
        return np.array([len(group) for group in self.groups.groups], dtype=np.int64)

    @cached_property
    def weights(self) -> IntArray:
        """Return how many channels one unit of each group counts for: those that it owns, none where none can go.

        None can go for a budget where the group has one tile, or where the fewest cost as much as all.
        """
        owned = np.array([group.weight for group in self.groups.groups], dtype=np.int64)
        groups, saves = np.arange(len(owned)), np.zeros(len(owned), dtype=bool)
        for others in (self.full, self.fewest) if len(owned) else ():
            before, after = self.marginal_costs(others, groups, self.full, self.fewest)
            saves |= after < before * (1 - SAME_COST)
        return owned * saves

    @cached_property
    def steps(self) -> list[TileStep]:
        """Return for each group the units that fill whole tiles."""
        return tile_steps(self.layers, self.target)

    @cached_property
    def options(self) -> list[IntArray]:
        """Return the counts that each group may keep, ascending; the last is all."""
        return [
            np.append(np.arange(step.step, size, step.step), size).astype(np.int64)
            for size, step in zip(self.full, self.steps, strict=True)
        ]

    @cached_property
    def fewest(self) -> IntArray:
        """Return the smallest count of each group; as no count costs less than a smaller one, they cost least."""
        return np.array([options[0] for options in self.options], dtype=np.int64)

    @cached_property
    def values(self) -> list[FloatArray]:
        """Return for each option of each group the score that it keeps."""
        sums = [np.cumsum(np.sort(self.scores[group.units])[::-1]) for group in self.groups.groups]
        return [total[counts - 1] for total, counts in zip(sums, self.options, strict=True)]

    def places(self, kept: IntArray) -> IntArray:
        """Return which option of each group a count is."""
        pairs = zip(self.options, kept, strict=True)
        return np.array([np.searchsorted(options, count) for options, count in pairs], dtype=np.int64)

    def every_choice(self) -> IntArray | None:
        """Return all counts that may be kept, shape (choices, groups), where they are few."""
        lengths = [len(options) for options in self.options]
        if math.prod(lengths) > EXHAUSTIVE:
            return None
        return self.counts(np.indices(lengths).reshape(len(lengths), -1).T)

    def score(self, kept: IntArray) -> FloatArray:
        """Return the score that candidates of shape (candidates, groups) keep, a number each."""
        columns = zip(self.values, self.options, kept.T, strict=True)
        total: FloatArray = np.sum(
            [value[np.searchsorted(options, counts)] for value, options, counts in columns], axis=0
        )
        return total

    def counts(self, places: IntArray) -> IntArray:
        """Return kept counts of shape (candidates, groups) from options of that shape."""
        columns = [options[places[:, group]] for group, options in enumerate(self.options)]
        return np.stack(columns, axis=1)

    def latency(self, kept: IntArray) -> LayerCosts:
        """Price all layers for kept counts of shape (groups,) or (candidates, groups)."""
        return self.target.price(self.layers.workload(self.target, self.sizes(kept)))

    def sizes(self, kept: IntArray) -> tuple[IntArray, IntArray]:
        """Return the input and output channels of each layer when each group keeps its best units.

        Args:
            kept: Units kept of each group, shape (groups,) or (candidates, groups).
        """
        sizes = self.layers.sizes(kept)
        for uneven, more in zip(self.layers.uneven, self._uneven, strict=True):
            sizes[uneven.side][..., uneven.row] += more[kept[..., uneven.group]]
        return sizes

    @cached_property
    def _uneven(self) -> list[IntArray]:
        """Return for each uneven side of a layer how many channels it has beyond its share, by the kept count."""
        found = []
        for uneven in self.layers.uneven:
            units = self.groups.groups[uneven.group].units
            channels = np.zeros(self.groups.count, dtype=np.int64)
            channels[uneven.units] = uneven.counts
            best = units[np.argsort(-self.scores[units], kind="stable")]
            each = int(uneven.counts.sum()) // len(units)
            found.append(np.append(0, np.cumsum(channels[best])) - each * np.arange(len(units) + 1))
        return found

    def cost(self, kept: IntArray) -> FloatArray:
        """Return what the whole network costs in the measure, a number per candidate."""
        rows, rest = self._moving
        sizes = self.sizes(kept)
        work = self.layers.workload(self.target, (sizes[0][..., rows], sizes[1][..., rows]), rows)
        costs = self.target.price(work).in_measure(self.measure)
        return np.asarray(costs.sum(axis=-1) + rest, dtype=np.float64)

    @cached_property
    def _moving(self) -> tuple[IntArray, float]:
        """Return the layers whose sizes depend on what is kept, and what the others cost together."""
        rows = np.union1d(self.layers.touched.rows, [uneven.row for uneven in self.layers.uneven]).astype(np.int64)
        costs = self.latency(self.full).in_measure(self.measure)
        return rows, float(np.delete(costs, rows).sum())

    def marginal_cost(self, kept: IntArray, groups: IntArray, counts: IntArray) -> FloatArray:
        """Return for trials, each another count of one group, the cost of the layers that the group touches.

        Args:
            kept: The counts of all groups, shape (groups,).
            groups: The group of each trial, shape (trials,).
            counts: The count that it would keep, shape (trials,).
        """
        touched, (reads, writes) = self.layers.touched, self.sizes(kept)
        lengths: IntArray = touched.lengths[groups]
        entries = touched.entries(groups)
        rows, more = touched.rows[entries], np.repeat(counts - kept[groups], lengths).astype(np.int64)
        into: IntArray = reads[rows] + more * touched.reads[entries]
        out: IntArray = writes[rows] + more * touched.writes[entries]
        owner = np.repeat(np.arange(len(groups)), lengths)
        for uneven, beyond in zip(self.layers.uneven, self._uneven, strict=True):
            here = (rows == uneven.row) & (groups[owner] == uneven.group)
            (into, out)[uneven.side][here] += beyond[counts[owner[here]]] - beyond[kept[uneven.group]]
        costs = self.target.price(self.layers.workload(self.target, (into, out), rows))
        return np.asarray(np.bincount(owner, costs.in_measure(self.measure), minlength=len(groups)), dtype=np.float64)

    def marginal_costs(self, kept: IntArray, groups: IntArray, *counts: Any) -> list[FloatArray]:
        """Return the same for several counts of each of some groups, an array for each, priced at once."""
        trials = self.marginal_cost(kept, np.tile(groups, len(counts)), np.concatenate(counts))
        return np.split(trials, len(counts))

    def kept_units(self, kept: IntArray) -> BoolArray:
        """Return which units stay when each group keeps its best ones."""
        keep = np.zeros(self.groups.count, dtype=bool)
        for group, count in zip(self.groups.groups, kept, strict=True):
            best = np.argsort(-self.scores[group.units], kind="stable")[:count]
            keep[group.units[best]] = True
        return keep
