"""Put channels back while the budget allows: first those that cost nothing, then the best score per cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smartc.analysis.channels.labels import IntArray
from smartc.selection.kept_options import SAME_COST, FloatArray, KeptOptions


def refilled(search: KeptOptions, kept: IntArray, limit: float) -> IntArray:
    """Return counts that are nowhere smaller, of a network that costs no more than the limit.

    A lower limit never gives a network that costs more: the steps are the same up to the first that it
    does not allow, and from there on the network of the higher limit costs more than the lower one.
    """
    raising = _Raising(search, kept.copy(), search.places(kept))
    total = float(search.cost(kept))
    stale = np.arange(len(kept))
    while True:
        raising.price(stale)
        fits = raising.extra <= limit * (1 + SAME_COST) - total
        if not fits.any():
            return raising.kept
        group = int(np.where(fits, raising.rate, -1.0).argmax())
        total += float(raising.extra[group])
        stale = raising.raise_one(group)


@dataclass
class _Raising:
    """The state of one refill: the counts, and what the next larger count of each group brings and costs."""

    search: KeptOptions
    kept: IntArray
    places: IntArray

    def __post_init__(self) -> None:
        """Start without any prices."""
        self.extra: FloatArray = np.full(len(self.kept), np.inf)
        self.rate: FloatArray = np.zeros(len(self.kept))

    def price(self, groups: IntArray) -> None:
        """Price the next larger count of some groups."""
        self.extra[groups] = np.inf
        growing = [group for group in groups if self.places[group] + 1 < len(self.search.options[group])]
        if not growing:
            return
        which, larger, gain = np.array(growing), [], []
        for group in growing:
            now = self.places[group]
            larger.append(self.search.options[group][now + 1])
            gain.append(self.search.values[group][now + 1] - self.search.values[group][now])
        before, after = self.search.marginal_costs(self.kept, which, self.kept[which], larger)
        extra = np.where(after <= before * (1 + SAME_COST), 0.0, after - before)
        self.extra[which] = extra
        self.rate[which] = np.where(extra > 0, np.array(gain) / np.maximum(extra, 1e-300), np.inf)

    def raise_one(self, group: int) -> IntArray:
        """Give a group its next larger count, and return the groups whose prices that may change."""
        self.places[group] += 1
        self.kept[group] = self.search.options[group][self.places[group]]
        return self.search.neighbours(group)
