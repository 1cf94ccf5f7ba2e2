"""The multiple-choice knapsack: exactly one option of each group, the most value within a cost.

The steps along the convex hulls of all groups, by falling value per cost, give the best choice for every cost that
they add up to; for a cost in between they are short of the best by less than the value of one step.  Which of the
steps around that one are taken is therefore tried in every combination: they are the core of the problem.

Source: Pisinger, A minimal algorithm for the multiple-choice knapsack problem, 1995.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from smartc.analysis.channels.labels import BoolArray, IntArray
from smartc.selection.hull import FloatArray, Hulls, Steps

# Costs are sums of floats; what exceeds a capacity by less than this share is rounding.
ROUNDING = 1e-12
# Steps of the core.
CORE = 8
# How often the most valuable step that still fits is taken afterwards.
FILLS = 3
# Up to this many choices are all tried.
EXHAUSTIVE = 20_000


def multiple_choice_knapsack(values: Sequence[Any], costs: Sequence[Any], capacities: Any) -> IntArray:
    """Return the best options for each capacity, the most costly where several are worth the same.

    No choice costs more than its capacity.  It is the best where choices are few; elsewhere it is short of the best
    by less than the value of one step along a hull.

    Args:
        values: Per group, the value of each option.
        costs: Per group, the cost of each option, at least 0.
        capacities: The largest total costs to solve for, shape (K,).

    Returns:
        Option indices, shape (K, groups); a row of -1 where not even the cheapest options fit.
    """
    limits = np.asarray(capacities, dtype=np.float64)
    limits = limits + np.abs(limits) * ROUNDING
    if math.prod(len(cost) for cost in costs) <= EXHAUSTIVE:
        return _best_of_all(values, costs, limits)
    hulls = Hulls.of(values, costs)
    room = limits - float(hulls.cost[hulls.starts].sum())
    picked = np.full((len(limits), len(costs)), -1, dtype=np.int64)
    fits = room >= 0
    if fits.any():
        picked[fits] = hulls.option[_places(hulls, room[fits])]
    return picked


def _best_of_all(values: Sequence[Any], costs: Sequence[Any], limits: FloatArray) -> IntArray:
    """Return the best of all choices for each limit."""
    lengths = [len(cost) for cost in costs]
    every = np.indices(lengths).reshape(len(lengths), math.prod(lengths))
    spent, worth = np.zeros(every.shape[1]), np.zeros(every.shape[1])
    for value, cost, options in zip(values, costs, every, strict=True):
        spent += np.asarray(cost, dtype=np.float64)[options]
        worth += np.asarray(value, dtype=np.float64)[options]
    order = np.lexsort((-worth, spent))
    spent, worth = spent[order], worth[order]
    # Those that are worth more than every cheaper one.
    best = np.flatnonzero(worth > np.append(-np.inf, np.maximum.accumulate(worth)[:-1]))
    within = np.searchsorted(spent[best], limits, side="right") - 1
    return np.where(within[:, None] < 0, -1, every[:, order[best[within]]].T)


def _places(hulls: Hulls, room: FloatArray) -> IntArray:
    """Return the places of the options for each capacity that the cheapest ones leave."""
    steps, cheapest = hulls.steps, hulls.starts
    taken = np.searchsorted(steps.spent, room, side="right") - 1
    places = cheapest + steps.counts(taken)
    if not len(steps.group):
        return places
    changed = places + _exchanges(steps, taken, room)
    # What takes a later step of a group without an earlier one has its count, but not its cost.
    left = room - _sums(hulls.cost, changed, cheapest)
    better = (left >= 0) & (_sums(hulls.value, changed, places) > 0)
    return _filled(hulls, np.where(better[:, None], changed, places), room)


def _sums(each: FloatArray, places: IntArray, others: IntArray) -> FloatArray:
    """Return by how much the options at some places add up to more than those at others, for each capacity."""
    sums: FloatArray = (each[places] - each[others]).sum(axis=1)
    return sums


def _filled(hulls: Hulls, places: IntArray, room: FloatArray) -> IntArray:
    """Return the places after the most valuable of the next steps that fit, one after another."""
    last, rows = np.append(hulls.starts[1:], len(hulls.group)) - 1, np.arange(len(places))
    for _ in range(FILLS):
        left = room - _sums(hulls.cost, places, hulls.starts)
        larger = np.minimum(places + 1, last)
        fits = (larger > places) & (hulls.cost[larger] - hulls.cost[places] <= left[:, None])
        gain = np.where(fits, hulls.value[larger] - hulls.value[places], -1.0)
        best = gain.argmax(axis=1)
        places[rows, best] += fits[rows, best]
    return places


def _exchanges(steps: Steps, taken: IntArray, room: FloatArray) -> IntArray:
    """Return how many steps more of each group the best subset of the core takes, shape (K, groups)."""
    width = min(CORE, len(steps.group))
    first = np.clip(taken - width // 2, 0, len(steps.group) - width)
    core = first[:, None] + np.arange(width)
    subsets = _subsets(width)
    worth = steps.value[core] @ subsets
    worth[steps.cost[core] @ subsets > (room - steps.spent[first])[:, None]] = -np.inf
    chosen = subsets[:, worth.argmax(axis=1)].T > 0
    more = chosen.astype(np.int64) - (core < taken[:, None])
    keys = np.arange(len(taken))[:, None] * steps.groups + steps.group[core]
    sums = np.bincount(keys.ravel(), more.ravel(), minlength=len(taken) * steps.groups)
    return sums.astype(np.int64).reshape(len(taken), steps.groups)


@cache
def _subsets(size: int) -> FloatArray:
    """Return all subsets of some members, a column of ones and zeros each; that of all comes first."""
    bits: BoolArray = (np.arange(2**size)[::-1] >> np.arange(size)[:, None]) & 1 > 0
    return bits.astype(np.float64)
