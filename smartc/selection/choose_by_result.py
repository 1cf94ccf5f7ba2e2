"""Choose by what the smaller network costs once it is made: where that is not what was foreseen, choose again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from smartc.analysis.channels.labels import IntArray
from smartc.core.errors import UserError
from smartc.selection.budget import Budget, impossible
from smartc.selection.choose import Choice, choice_of, choose
from smartc.selection.kept_options import SAME_COST, BoolArray, KeptOptions

# A result that is below the budget by less than this share is near enough.
NEAR = 0.01
# How often the limit is corrected.
CORRECTIONS = 6


def choose_by_result(search: KeptOptions, budget: Budget, cost: Callable[[BoolArray], float]) -> Choice:
    """Return the kept counts whose network meets a budget with the most score.

    Args:
        search: What each group may keep.
        budget: What may remain.
        cost: Returns the cycles, MACs or bytes of the network that keeps some units.

    Raises:
        UserError: No network costs as little as asked.
    """
    choice = choose(search, budget)
    if budget.kind == "sparsity":
        return choice
    most, limit, best = budget.limit * (1 + SAME_COST), budget.limit, None
    for _ in range(CORRECTIONS):
        spent = cost(search.kept_units(choice.kept))
        if spent <= most and (best is None or spent > best[0]):
            best = (spent, choice)
        foreseen = float(search.each_group.cost(choice.kept))
        if spent <= most and (spent >= foreseen * (1 - SAME_COST) or spent >= budget.limit * (1 - NEAR)):
            break
        limit += budget.limit - spent
        try:
            choice = choose(search, replace(budget, limit=limit))
        except UserError:
            break  # what is foreseen cannot be so little, though the result may
    return best[1] if best is not None else _fewest(search, budget, cost)


def _fewest(search: KeptOptions, budget: Budget, cost: Callable[[BoolArray], float]) -> Choice:
    """Return the choice of the fewest channels.

    Raises:
        UserError: Not even its network costs as little as asked.
    """
    kept: IntArray = search.spread(search.fewest)
    least = cost(search.kept_units(kept))
    if least > budget.limit * (1 + SAME_COST):
        raise impossible(budget, least, search.target)
    return choice_of(search, budget, kept)
