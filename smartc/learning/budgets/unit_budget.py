"""Budgets in units: what a soft mask may add up to, and which units a hard one keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np

from smartc.analysis.channels.labels import IntArray
from smartc.learning.budgets.live_weights import LiveWeights
from smartc.masks.layouts import BoolArray
from smartc.masks.units import FloatArray
from smartc.selection.choose import Choice

# A layer's next tiles are priced together, in strides of one part in this many of all that it has.
STRIDE = 20
# A unit that costs nothing now is priced at this part of its cost elsewhere: it is taken, but not for ever.
NEXT_TO_NOTHING = 1e-3
# Costs are sums of floats; differences below this share are rounding.
SAME = 1e-11


class UnitBudget(ABC):
    """What may stay.

    Attributes:
        cost: The present cost of keeping each unit, shape (units,); None where each costs one.
        limit: The sum of a soft mask times the cost; per group where there are groups.
        group_size: Units of a group that has a limit of its own; 0 where there is one for all.
    """

    cost: FloatArray | None
    limit: float
    group_size: int

    @abstractmethod
    def reprice(self, mask: FloatArray) -> None:
        """Find costs and limit for a soft mask as it is now."""

    @abstractmethod
    def keep(self, importance: FloatArray) -> BoolArray:
        """Return the units that stay, given the importance of each."""

    def order(self, importance: FloatArray) -> FloatArray:
        """Return a number per unit that is higher the tighter a budget may be before the unit goes.

        It is the logarithm of the importance for the cost.
        """
        smallest = importance[importance > 0].min(initial=1.0)
        order = np.log(np.maximum(importance, smallest))
        return np.asarray(order if self.cost is None else order - np.log(self.cost), dtype=np.float64)

    def channel_choice(self, keep: BoolArray) -> Choice | None:
        """Return the number of channels of each group that a hard mask keeps; None where units are no channels."""
        return None


@dataclass
class CountBudget(UnitBudget):
    """Keep a number of units, whichever they are."""

    limit: float
    cost: FloatArray | None = None
    group_size: int = 0

    def reprice(self, mask: FloatArray) -> None:
        """Do nothing: a count is a count."""

    def keep(self, importance: FloatArray) -> BoolArray:
        """Return the most important units."""
        best = np.argsort(-importance, kind="stable")[: round(self.limit)]
        kept = np.zeros(len(importance), dtype=bool)
        kept[best] = True
        return kept


@dataclass
class PatternBudget(UnitBudget):
    """Keep ``limit`` of every ``group_size`` neighbours."""

    limit: float
    group_size: int
    cost: FloatArray | None = None

    def reprice(self, mask: FloatArray) -> None:
        """Do nothing: the pattern is fixed."""

    def keep(self, importance: FloatArray) -> BoolArray:
        """Return the best of each group."""
        rows = importance.reshape(-1, self.group_size)
        kept = np.zeros(rows.shape, dtype=bool)
        best = np.argsort(-rows, axis=1, kind="stable")[:, : round(self.limit)]
        np.put_along_axis(kept, best, True, axis=1)
        return kept.reshape(-1)


@dataclass
class PricedBudget(UnitBudget):
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
        """Set the cost to that of the next units of each layer, and the limit to what is left of the amount."""
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

    def keep(self, importance: FloatArray) -> BoolArray:
        """Return the most important units for their cost; none that is left out would fit into the amount.

        The search takes the longest run of the best that fits, leaves out layers that are too dear for
        what remains, and goes on with the others.  A smaller amount therefore never gives what costs more.
        """
        assert self.cost is not None
        layer_of, layers = self.weights.units.layer_of, len(self.weights.units.names)
        if self._fits(self.weights.units.per_layer):
            # Lists of live tiles take bytes, too: a little less than everything may be larger.
            return np.ones(len(importance), dtype=bool)
        order = np.argsort(-importance / self.cost, kind="stable")
        keep, kept = np.zeros(len(importance), dtype=bool), np.zeros(layers, dtype=np.int64)
        while len(order):
            run = self._longest_run(kept, layer_of[order])
            keep[order[:run]] = True
            kept = np.bincount(layer_of[keep], minlength=layers)
            order = order[run:]
            open_layers = self._open_layers(kept)
            open_layers[layer_of[order[:1]]] = False
            order = order[open_layers[layer_of[order]]]
        return keep

    def _longest_run(self, kept: IntArray, layers: IntArray) -> int:
        """Return the number of the next units that fit, given their layers in order."""
        low, high = 0, len(layers)
        while low < high:
            middle = (low + high + 1) // 2
            more = kept + np.bincount(layers[:middle], minlength=len(kept))
            low, high = (middle, high) if self._fits(more) else (low, middle - 1)
        return low

    def _fits(self, kept: IntArray) -> bool:
        """Return whether the network is within the amount."""
        return self.weights.other + float(self.weights.by_layer(kept).sum()) <= self.amount * (1 + SAME)

    def _open_layers(self, kept: IntArray) -> BoolArray:
        """Return whether each layer can keep one unit more within the amount, shape (layers,)."""
        here = self.weights.by_layer(kept)
        more = self.weights.by_layer(np.minimum(kept + 1, self.weights.units.per_layer)) - here
        return np.asarray(self.weights.other + float(here.sum()) + more <= self.amount * (1 + SAME), dtype=bool)
