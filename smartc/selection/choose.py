"""Choose how many channels each group keeps: whole tiles, within a budget of channels or of what the rest costs.

Both searches walk one sequence of candidates that depends on the model, the target and the scores
but not on the budget, take the first that meets it, and put back what the budget allows.  A tighter
budget therefore never gives a model that costs more.  Where there are few choices, a budget of time,
MACs or bytes gets the best of all that meet it, which is as monotone.  No layer becomes slower,
whatever is counted, because none grows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from smartc.analysis.channels.labels import IntArray
from smartc.selection.budget import Budget, impossible, parse_budget
from smartc.selection.by_share import shortfall, thinned
from smartc.selection.kept_options import SAME_COST, FloatArray, KeptOptions
from smartc.selection.knapsack import multiple_choice_knapsack
from smartc.selection.reasons import reasons
from smartc.selection.refill import refilled

__all__ = ["Budget", "Choice", "KeptOptions", "choice_of", "choose", "parse_budget"]

# Each round of the search by cost takes off this share of it, in this many steps.
ROUND, STEPS = 0.08, 4
# In a round a group moves by up to this many options, or this part of its options if that is more:
# farther away the costs of the round no longer hold.
NEAR, NEAR_PART = 4, 8
# A round takes off at most this part of what cutting all groups as far as it goes would take off: with less to choose
# from, what is cut would be what is near rather than what is worth the least.
REACH = 0.25


@dataclass(frozen=True, eq=False)
class Choice:
    """How many units each group keeps, and a sentence on what kept it from being less or more."""

    kept: IntArray
    reasons: tuple[str, ...]
    note: str


def choose(search: KeptOptions, budget: Budget) -> Choice:
    """Return the kept counts that meet a budget with the most score.

    Raises:
        UserError: No choice costs as little as asked.
        ValueError: The search counts something else than the budget.
    """
    if search.measure != budget.measure:
        raise ValueError(f"the search counts {search.measure}, the budget {budget.measure}")
    sparsity = budget.kind == "sparsity"
    kept = thinned(search, 1 - budget.limit) if sparsity else _by_cost(search, budget)
    return choice_of(search, budget, search.spread(kept))


def choice_of(search: KeptOptions, budget: Budget, kept: IntArray, *, learned: bool = False) -> Choice:
    """Return counts of all groups that meet a budget, chosen by the scores or by learned masks, with the reasons."""
    if not len(kept):
        return Choice(kept, (), "no channel can be removed")
    each = search.each_group
    note = shortfall(each, 1 - budget.limit, kept) if budget.kind == "sparsity" else ""
    return Choice(kept, reasons(each, budget, kept, learned), "; ".join(filter(None, (note, search.told))))


def _by_cost(search: KeptOptions, budget: Budget) -> IntArray:
    """Return the first of ever cheaper candidates that is cheap enough, with what the rest of the budget allows.

    Raises:
        UserError: Not even the fewest channels are cheap enough.
    """
    least, limit = float(search.cost(search.fewest)), budget.limit
    if least > limit * (1 + SAME_COST):
        raise impossible(budget, least, search.target)
    if not len(search.full):
        return search.full
    every = search.every_choice()
    if every is not None:
        return refilled(search, _best(search, every, limit), limit)
    for kept in _ladder(search.guide):
        if float(search.cost(kept)) <= limit * (1 + SAME_COST):
            return refilled(search, kept, limit)
    return refilled(search, search.fewest, limit)


def _best(search: KeptOptions, kept: IntArray, limit: float) -> IntArray:
    """Return the cheapest of the candidates with the most score within the limit."""
    costs = search.cost(kept)
    order = np.lexsort((costs, -search.score(kept)))
    best: IntArray = kept[order[(costs <= limit * (1 + SAME_COST))[order].argmax()]]
    return best


def _ladder(search: KeptOptions) -> Iterator[IntArray]:
    """Yield ever cheaper candidates: knapsacks of marginal costs, priced again after each round."""
    now, least = float(search.cost(search.full)), float(search.cost(search.fewest))
    kept, aim = search.full, now
    yield kept
    while aim > max(least, 1.0):
        aim *= 1 - ROUND
        candidates = _round(search, kept, now, aim * np.linspace(1 + ROUND * (1 - 1 / STEPS), 1, STEPS))
        yield from candidates
        if (cost := float(search.cost(candidates[-1]))) < now:
            kept, now = candidates[-1], cost
            # Where groups could not move as far as was aimed for, the next round goes on from where they are.
            aim = max(aim, now * (1 - ROUND / 2))


def _round(search: KeptOptions, kept: IntArray, now: float, aims: FloatArray) -> IntArray:
    """Return the best candidates for some costs by the marginal costs near ``kept``, as far as these reach."""
    places = search.places(kept)
    spans = [max(NEAR, len(options) // NEAR_PART) for options in search.options]
    first = [max(place - span, 0) for place, span in zip(places, spans, strict=True)]
    near = [
        options[start : place + span + 1]
        for options, start, place, span in zip(search.options, first, places, spans, strict=True)
    ]
    groups = np.repeat(np.arange(len(near)), [len(counts) for counts in near])
    flat = search.marginal_cost(kept, groups, np.concatenate(near))
    totals = np.split(flat, np.cumsum([len(counts) for counts in near])[:-1])
    values = [value[start : start + len(each)] for value, start, each in zip(search.values, first, totals, strict=True)]
    costs = [total - total.min() for total in totals]
    here = sum(float(cost[place - start]) for cost, place, start in zip(costs, places, first, strict=True))
    saved = (now - aims) * min(1.0, REACH * here / max(now - float(aims.min()), 1e-300))
    limits = here - saved
    return search.counts(multiple_choice_knapsack(values, costs, limits) + np.array(first))
