"""The budget of blocks in what the compiled model costs: channels that nothing reads any more are gone from it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from smartc.analysis.channels.labels import IntArray
from smartc.learning.budgets.result_price import ResultPrice
from smartc.learning.budgets.unit_budget import SAME, PricedBudget
from smartc.masks.layouts import BoolArray
from smartc.masks.units import FloatArray

# A result that is below the amount by less than this share is near enough.
NEAR = 0.005
# Layers that are passed over, one after another, because their next block does not fit any more.
FILLS = 12
# Most models that are made to find how many blocks fit; an order of channels can take seconds to find.
TRIALS = 6


@dataclass
class ResultBudget(PricedBudget):
    """Keep the blocks whose compiled model is within an amount of time, multiplications or bytes.

    Where no channel becomes unread, and blocks are the target's tiles, these are the blocks of ``PricedBudget``.

    Attributes:
        result: Prices the compiled model.
    """

    result: ResultPrice | None = None
    _first: BoolArray | None = field(default=None, init=False, repr=False)
    _known: tuple[bytes, BoolArray] | None = field(default=None, init=False, repr=False)

    def reprice(self, mask: FloatArray) -> None:
        """Set the cost to that of the next units of each layer, and the limit to what the first hard mask adds up to.

        Before there is one, and where its blocks cost what the compiled model does, it is what is left of the amount.
        """
        super().reprice(mask)
        if self._first is not None and self.cost is not None:
            self.limit = max(float(self.cost @ self._first), 1e-6)

    def keep(self, importance: FloatArray) -> BoolArray:
        """Return the most important units for their cost whose compiled model is within the amount."""
        assert self.cost is not None
        order = np.argsort(-importance / self.cost, kind="stable")
        if self._known is None or self._known[0] != order.tobytes():
            self._known = order.tobytes(), self._kept(importance, order)
        return self._known[1].copy()

    def _kept(self, importance: FloatArray, order: IntArray) -> BoolArray:
        """Return the units that stay, given their importance and their order by it."""
        keep = super().keep(importance)
        if self._adds_up(keep):
            found = self._tried(order, keep)
        else:
            found = self._tried(order, self._filled(order))
            self._aim_at(found)
        return found

    def _aim_at(self, keep: BoolArray) -> None:
        """Let soft masks add up to what a hard mask does, if it is the first."""
        if self._first is None:
            self._first = keep
            self.reprice(np.ones(len(keep)))

    def _adds_up(self, keep: BoolArray) -> bool:
        """Return whether the compiled model costs what the layers do with as many units as they keep."""
        units = self.weights.units
        counts = np.bincount(units.layer_of[keep], minlength=len(units.names))
        apart = self.weights.other + float(self.weights.by_layer(counts).sum())
        return abs(self._bound(keep) - apart) <= SAME * max(apart, 1.0)

    def _filled(self, order: IntArray) -> BoolArray:
        """Return the longest run of the best units that fits, and more of the layers whose units still do."""
        keep = np.zeros(len(order), dtype=bool)
        layer_of = self.weights.units.layer_of
        for _ in range(FILLS):
            run = self._longest(keep, order)
            keep[order[:run]] = True
            order = order[run:]
            if not len(order) or self._bound(keep) >= self.amount * (1 - NEAR):
                break
            order = order[layer_of[order] != layer_of[order[0]]]
        return keep

    def _longest(self, keep: BoolArray, order: IntArray) -> int:
        """Return the number of the next units that fit beside those that are kept."""
        low, high = 0, len(order)
        while low < high:
            middle = (low + high + 1) // 2
            more = keep.copy()
            more[order[:middle]] = True
            low, high = (middle, high) if self._bound(more) <= self.amount * (1 + SAME) else (low, middle - 1)
        return low

    def _tried(self, order: IntArray, keep: BoolArray) -> BoolArray:
        """Return the units that are kept, or others whose compiled model comes nearer to the amount from below."""
        price = self._exact(keep)
        best, most = (keep, price) if price <= self.amount * (1 + SAME) else (np.zeros_like(keep), -np.inf)
        low, high = _Point(0, 0.0), _Point(len(order), self._bound(np.ones_like(keep)))
        here = _Point(int(keep.sum()), price)
        for _ in range(TRIALS):
            low, high = (here, high) if here.price <= self.amount * (1 + SAME) else (low, here)
            if most >= self.amount * (1 - 2 * NEAR) or high.count - low.count < 2 or best.all():
                break
            count = low.towards(high, self.amount)
            keep = np.zeros_like(keep)
            keep[order[:count]] = True
            here = _Point(count, self._exact(keep))
            if most < here.price <= self.amount * (1 + SAME):
                best, most = keep, here.price
        return best

    def _bound(self, keep: BoolArray) -> float:
        """Return the most that the compiled model costs."""
        assert self.result is not None
        return self.result.bound(keep)

    def _exact(self, keep: BoolArray) -> float:
        """Return what the compiled model costs."""
        assert self.result is not None
        return self.result.exact(keep)


@dataclass(frozen=True)
class _Point:
    """A number of units, and what the compiled model costs with them."""

    count: int
    price: float

    def towards(self, other: _Point, amount: float) -> int:
        """Return a count between two points, nearer to the one whose price is nearer to an amount, but not too near."""
        share = (amount - self.price) / max(other.price - self.price, 1e-300)
        share = min(max(share, 0.1), 0.9)
        return min(max(self.count + round(share * (other.count - self.count)), self.count + 1), other.count - 1)
