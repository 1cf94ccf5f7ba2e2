"""The budget of channel masks: what the groups may keep, in whole tiles of the target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from smartc.core.errors import UserError
from smartc.learning.budgets.unit_budget import NEXT_TO_NOTHING, UnitBudget
from smartc.masks.layouts import BoolArray
from smartc.masks.units import FloatArray
from smartc.selection.choose import Budget, Choice, KeptOptions, choice_of, choose
from smartc.selection.choose_by_result import choose_by_result

# How far along the way to the budget, and beyond it, knapsacks tell the order in which channels go.
LEVELS = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0, 1.2, 1.4, 1.7, 2.0)
# The share of its channels, and of what it costs, that no network can be cut down to.
LEAST_OF_UNITS, LEAST = 0.01, 1e-6


@dataclass
class ChannelBudget(UnitBudget):
    """Keep channels within a share of them, or within time, multiplications or bytes on a target.

    Attributes:
        search: The layers and the target.
        budget: What was asked for.
        result: Returns what the network costs that keeps some channels; None to take what the search foresees.
    """

    search: KeptOptions
    budget: Budget
    result: Callable[[BoolArray], float] | None = None
    group_size: int = 0
    cost: FloatArray | None = field(init=False)
    limit: float = field(init=False)

    def __post_init__(self) -> None:
        """Price the channels of the whole network."""
        self.reprice(np.ones(self.search.groups.count))

    def reprice(self, mask: FloatArray) -> None:
        """Set the cost to that of one more channel of each group, and the limit to what the budget leaves for them."""
        search, of = self.search.each_group, self.search.groups.group_of
        kept = np.bincount(of, mask, minlength=len(search.full)).astype(np.float64)
        if self.budget.kind == "sparsity":
            # Those that do not count stay: a budget of the others is not spent on them.
            each = np.maximum(search.weights, NEXT_TO_NOTHING)
            self.limit = float((each - (1 - self.budget.limit) * search.weights) @ search.full)
        else:
            each, here = self._marginal(kept)
            self.limit = self.budget.limit - here + float(each @ kept)
        self.cost = each[of]
        # A soft mask must not be squeezed to less than whole tiles allow.
        self.limit = min(max(self.limit, float(each @ search.fewest)), float(each @ search.full))

    def _marginal(self, kept: FloatArray) -> tuple[FloatArray, float]:
        """Return the marginal cost of a channel of each group near some counts, and the cost of the network there."""
        search = self.search.each_group
        places = np.array(
            [np.abs(options - count).argmin() for options, count in zip(search.options, kept, strict=True)]
        )
        now = np.array([options[place] for options, place in zip(search.options, places, strict=True)], dtype=np.int64)
        most = [len(options) - 1 for options in search.options]
        above, below = (
            np.array([options[place] for options, place in zip(search.options, moved, strict=True)], dtype=np.int64)
            for moved in (np.minimum(places + 1, most), np.maximum(places - 1, 0))
        )
        groups = np.arange(len(now))
        more, less = search.marginal_costs(now, groups, above, below)
        each = (more - less) / np.maximum(above - below, 1)
        floor = max(float(each.max(initial=0.0)), 1.0) * NEXT_TO_NOTHING
        return np.maximum(each, floor), float(search.cost(now)) + float(each @ (kept - now))

    def order(self, importance: FloatArray) -> FloatArray:
        """Return a number per channel that is higher the tighter a budget may be before the channel goes.

        The knapsacks of several budgets tell it, in whole tiles and with every layer priced as it then is;
        among channels that go together, the importance does.
        """
        search = replace(self.search, scores=np.asarray(importance, dtype=np.float64))
        levels = np.zeros(len(importance))
        for share in LEVELS:
            try:
                levels += search.kept_units(choose(search, self._budget_at(share)).kept)
            except UserError:
                break  # tighter than the target allows
        return levels + np.argsort(np.argsort(importance, kind="stable"), kind="stable") / (2 * max(len(importance), 1))

    def _budget_at(self, share: float) -> Budget:
        """Return the budget of a share of the way from nothing to what was asked for, or beyond."""
        budget = self.budget
        least = LEAST_OF_UNITS if budget.kind == "sparsity" else LEAST
        left = budget.dense - share * (budget.dense - budget.limit)
        return replace(budget, limit=max(left, least * budget.dense))

    def keep(self, importance: FloatArray) -> BoolArray:
        """Return the most important channels within the budget, in whole tiles."""
        search = replace(self.search, scores=np.asarray(importance, dtype=np.float64))
        if self.result is None:
            return search.kept_units(choose(search, self.budget).kept)
        return search.kept_units(choose_by_result(search, self.budget, self.result).kept)

    def channel_choice(self, keep: BoolArray) -> Choice:
        """Return the number of channels of each group that a hard mask keeps, and the reasons."""
        kept = np.bincount(self.search.groups.group_of[keep], minlength=len(self.search.groups.groups)).astype(np.int64)
        return choice_of(self.search, self.budget, kept, learned=True)
