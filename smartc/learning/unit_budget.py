"""Budgets in units: what a soft mask may add up to, and which units a hard one keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from smartc.learning.live_weights import LiveWeights
from smartc.learning.units import FloatArray
from smartc.passes.mask_layouts import BoolArray

# A layer's next tiles are priced together, so many parts of all that it has.
STRIDE = 20
# What costs nothing at the moment costs this part of what it would elsewhere: it is taken, but not for ever.
NEXT_TO_NOTHING = 1e-3
# Bisections of a threshold: more than there are bits in a rank.
HALVINGS = 60
# Costs are sums of floats; differences below this share are rounding.
SAME = 1e-11


class UnitBudget(Protocol):
    """What may stay.

    Attributes:
        cost: What keeping each unit costs at the moment; None where each costs one.
        limit: What a soft mask adds up to, in costs; per group where there are groups.
        group_size: Units of a group that has a limit of its own; 0 where there is one for all.
    """

    cost: FloatArray | None
    limit: float
    group_size: int

    def reprice(self, mask: FloatArray) -> None:
        """Find costs and limit for a soft mask as it is now."""
        ...

    def keep(self, worth: FloatArray) -> BoolArray:
        """Return the units that stay, given what each is worth."""
        ...


@dataclass
class CountBudget:
    """Keep a number of units, whichever they are."""

    limit: float
    cost: FloatArray | None = None
    group_size: int = 0

    def reprice(self, mask: FloatArray) -> None:
        """Do nothing: a count is a count."""

    def keep(self, worth: FloatArray) -> BoolArray:
        """Return the units worth most."""
        best = np.argsort(-worth, kind="stable")[: round(self.limit)]
        kept = np.zeros(len(worth), dtype=bool)
        kept[best] = True
        return kept


@dataclass
class PatternBudget:
    """Keep ``limit`` of every ``group_size`` neighbours."""

    limit: float
    group_size: int
    cost: FloatArray | None = None

    def reprice(self, mask: FloatArray) -> None:
        """Do nothing: the pattern is fixed."""

    def keep(self, worth: FloatArray) -> BoolArray:
        """Return the best of each group."""
        rows = worth.reshape(-1, self.group_size)
        kept = np.zeros(rows.shape, dtype=bool)
        best = np.argsort(-rows, axis=1, kind="stable")[:, : round(self.limit)]
        np.put_along_axis(kept, best, True, axis=1)
        return kept.reshape(-1)


@dataclass
class PricedBudget:
    """Keep what a target can do within an amount of time, multiplications or bytes.

    Attributes:
        weights: Prices layers by the units that they keep.
        amount: The amount for the whole network.
    """

    weights: LiveWeights
    amount: float
    group_size: int = 0
    cost: FloatArray | None = field(init=False)
    limit: float = field(init=False)

    def __post_init__(self) -> None:
        """Price the units of the whole network."""
        self.reprice(np.ones(self.weights.units.count))

    def reprice(self, mask: FloatArray) -> None:
        """Make costs what the next units of each layer would add, and the limit what is left of the amount."""
        units = self.weights.units
        kept = np.bincount(units.layer_of, mask, minlength=len(units.names))
        total = units.per_layer.astype(np.float64)
        step = np.maximum(total / STRIDE, 1.0)
        low, high = np.maximum(kept - step, 0.0), np.minimum(kept + step, total)
        here, below, above = (self.weights.by_layer(counts) for counts in (kept, low, high))
        slope = (above - below) / np.maximum(high - low, 1e-9)
        dense = self.weights.by_layer(total) / np.maximum(total, 1.0)
        slope = np.maximum(slope, dense * NEXT_TO_NOTHING + 1e-12)
        self.cost = slope[units.layer_of]
        self.limit = max(self.amount - self.weights.other - float(here.sum()) + float(slope @ kept), 1e-6)
        self.limit = min(self.limit, float(slope @ total))

    def keep(self, worth: FloatArray) -> BoolArray:
        """Return the units worth most for their cost, as many as the amount allows.

        Units that add nothing to their layer's cost stay too.
        """
        assert self.cost is not None
        order = np.argsort(-worth / self.cost, kind="stable")
        kept = self.weights.units.per_layer * 0
        low, high = 0, len(order)
        layer_of = self.weights.units.layer_of
        while low < high:
            middle = (low + high + 1) // 2
            kept = np.bincount(layer_of[order[:middle]], minlength=len(self.weights.units.names))
            low, high = (middle, high) if self._fits(kept) else (low, middle - 1)
        keep = np.zeros(len(worth), dtype=bool)
        keep[order[:low]] = True
        return self._with_free(keep, order)

    def _fits(self, kept: FloatArray) -> bool:
        """Return whether the network is within the amount."""
        return self.weights.other + float(self.weights.by_layer(kept).sum()) <= self.amount * (1 + SAME)

    def _with_free(self, keep: BoolArray, order: FloatArray) -> BoolArray:
        """Return the units with those that cost nothing more, best first."""
        units = self.weights.units
        kept = np.bincount(units.layer_of[keep], minlength=len(units.names)).astype(np.float64)
        most, low, high = self.weights.by_layer(kept) * (1 + SAME), kept.copy(), units.per_layer.astype(np.float64)
        for _ in range(HALVINGS):
            middle = np.ceil((low + high) / 2)
            free = self.weights.by_layer(middle) <= most
            low, high = np.where(free, middle, low), np.where(free, high, np.maximum(middle - 1, low))
        room = (low - kept).astype(np.int64)
        for unit in order[~keep[order]]:
            layer = units.layer_of[unit]
            if room[layer] > 0:
                keep[unit] = True
                room[layer] -= 1
        return keep
