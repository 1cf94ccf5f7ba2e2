"""Kept counts that are the same in all blocks that repeat: groups that are alike are one item of every search."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from smartc.analysis.channels.labels import IntArray
from smartc.selection.kept_options import FloatArray, KeptOptions
from smartc.selection.repeated import alike, repeats_told


@dataclass(frozen=True, eq=False)
class UniformOptions(KeptOptions):
    """What a search needs that keeps as many units in each of the groups that are alike; which ones may differ.

    All counts, options, scores and costs are those of items: an item is the groups that are alike.
    """

    @cached_property
    def each_group(self) -> KeptOptions:
        """Return the same with an item for each group."""
        return KeptOptions(self.layers, self.target, self.scores, self.measure)

    @cached_property
    def item_of(self) -> IntArray:
        """Return the item of each group."""
        return alike(self.groups)

    @cached_property
    def members(self) -> list[IntArray]:
        """Return the groups of each item."""
        return [np.flatnonzero(self.item_of == item) for item in range(int(self.item_of.max(initial=-1)) + 1)]

    @property
    def told(self) -> str:
        """Return a sentence on what is the same."""
        return repeats_told(self.groups)

    def spread(self, kept: IntArray) -> IntArray:
        """Return the counts of groups, of shape (groups,) or (candidates, groups), from those of items."""
        spread: IntArray = kept[..., self.item_of]
        return spread

    def neighbours(self, group: int) -> IntArray:
        """Return the items that touch a layer that an item touches, itself among them."""
        parts = [self.layers.touched.neighbours(member) for member in self.members[group]]
        return np.unique(self.item_of[np.concatenate(parts)])

    @cached_property
    def full(self) -> IntArray:
        """Return the number of units of each group of an item."""
        return np.array([self.each_group.full[groups[0]] for groups in self.members], dtype=np.int64)

    @cached_property
    def weights(self) -> IntArray:
        """Return how many channels one unit of all groups of an item counts for."""
        each = self.each_group.weights
        return np.array([each[groups].sum() for groups in self.members], dtype=np.int64)

    @cached_property
    def options(self) -> list[IntArray]:
        """Return the counts that all groups of an item may keep, ascending; the last is all."""
        each, found = self.each_group.options, []
        for groups in self.members:
            common = each[groups[0]]
            for group in groups[1:]:
                common = np.intersect1d(common, each[group])
            found.append(common)
        return found

    @cached_property
    def values(self) -> list[FloatArray]:
        """Return for each option of each item the score that its groups keep."""
        each, found = self.each_group, []
        for groups, options in zip(self.members, self.options, strict=True):
            parts = [each.values[group][np.searchsorted(each.options[group], options)] for group in groups]
            found.append(np.sum(parts, axis=0))
        return found

    def sizes(self, kept: IntArray) -> tuple[IntArray, IntArray]:
        """Return the input and output channels of each layer when each group keeps its best units."""
        return super().sizes(self.spread(kept))

    def marginal_cost(self, kept: IntArray, groups: IntArray, counts: IntArray) -> FloatArray:
        """Return for trials, each another count of one item, the cost of the layers that its groups touch."""
        touched, (reads, writes) = self.layers.touched, self.sizes(kept)
        members = [self.members[item] for item in groups]
        flat = np.concatenate([*members, np.zeros(0, dtype=np.int64)])
        trial = np.repeat(np.repeat(np.arange(len(groups)), list(map(len, members))), touched.lengths[flat])
        entries = touched.entries(flat)
        # A layer between two groups of an item changes on both sides at once.
        pairs, place = np.unique(np.stack([trial, touched.rows[entries]]), axis=1, return_inverse=True)
        (owner, rows), more = pairs, (counts - kept[groups])[trial]
        into, out = reads[rows].copy(), writes[rows].copy()
        np.add.at(into, place.ravel(), more * touched.reads[entries])
        np.add.at(out, place.ravel(), more * touched.writes[entries])
        for uneven, beyond in zip(self.layers.uneven, self._uneven, strict=True):
            item = self.item_of[uneven.group]
            here = (rows == uneven.row) & (groups[owner] == item)
            (into, out)[uneven.side][here] += (beyond[counts] - beyond[kept[groups]])[owner[here]] if here.any() else 0
        costs = self.target.price(self.layers.workload(self.target, (into, out), rows))
        return np.asarray(np.bincount(owner, costs.in_measure(self.measure), minlength=len(groups)), dtype=np.float64)
