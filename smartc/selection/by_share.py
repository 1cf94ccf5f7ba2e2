"""Choose by the share of channels that go: the most score among choices no slower than the same share of every layer.

Where the score alone says which channels go, they are mostly those of wide and cheap layers: half of the
channels gone can leave two thirds of the time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from smartc.analysis.channels.labels import IntArray
from smartc.selection.kept_options import SAME_COST, BoolArray, FloatArray, KeptOptions
from smartc.selection.knapsack import ROUNDING, multiple_choice_knapsack
from smartc.selection.refill import refilled

# How finely the share of removed channels is searched.
STEPS = 200
# How much more than a percent of the channels a percent of the time counts, in one knapsack each: where time is what
# is short, the best choice is near that of one of them, as all choices are priced again.
TIME_WEIGHTS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0)


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Choices that each remove more and cost no more than the one before.

    Attributes:
        kept: Shape (candidates, groups).
        removed: The share of the channels that is gone.
        cost: In cycles.
    """

    kept: IntArray
    removed: FloatArray
    cost: FloatArray


# Several budgets are asked of one search.
_KNOWN: WeakKeyDictionary[KeptOptions, _Candidates] = WeakKeyDictionary()


def thinned(search: KeptOptions, share: float) -> IntArray:
    """Return the counts that are kept where a share of the channels goes, as many as can go if that is less.

    Channels that cost no time are put back as far as the share allows.
    """
    if not len(search.full):
        return search.full
    if not search.weights.any():
        return search.full
    found = _KNOWN.get(search)
    if found is None:
        found = _KNOWN[search] = _candidates(search)
    furthest, gone = found.kept[-1], float(found.removed[-1])
    if gone < share - ROUNDING:
        return furthest
    limit = float(search.cost(_evenly(search, np.array([share]))[0])) * (1 + SAME_COST)
    for place in np.flatnonzero((found.removed >= share - ROUNDING) & (found.cost <= limit)):
        filled = refilled(search, found.kept[place], float(found.cost[place]))
        if float(_removed(search, filled[None])[0]) >= share - ROUNDING:
            return filled
    return furthest


def shortfall(search: KeptOptions, share: float, kept: IntArray) -> str:
    """Return a note where counts remove less than a share of the channels, else nothing."""
    gone = float(_removed(search, kept[None])[0])
    return f"only {gone:.1%} of the channels can be removed in whole tiles" if gone < share - ROUNDING else ""


def _candidates(search: KeptOptions) -> _Candidates:
    """Return for each of many shares the choice with the most score, no slower than that share of every layer."""
    shares = np.arange(STEPS) / STEPS
    evenly = _evenly(search, shares)
    pool = search.every_choice()
    if pool is None:
        pool = np.unique(np.concatenate([*_knapsacks(search), evenly, _evenly(search, shares, most=True)]), axis=0)
    cost, removed = search.cost(pool), _removed(search, pool)
    order = np.lexsort((cost, -search.score(pool)))
    pool, cost, removed = pool[order], cost[order], removed[order]
    chosen: list[int] = []
    limit = math.inf
    # The last is as far as it goes.
    for asked, even in zip([*shares, removed.max()], [*search.cost(evenly), math.inf], strict=True):
        limit = min(limit, float(even) * (1 + SAME_COST))
        fits: BoolArray = (removed >= asked - ROUNDING) & (cost <= limit)
        if fits.any():
            chosen.append(int(fits.argmax()))
            limit = float(cost[chosen[-1]])
    kept = pool[chosen]
    kept[-1] = refilled(search, kept[-1], limit)
    return _Candidates(kept, _removed(search, kept), cost[chosen])


def _evenly(search: KeptOptions, shares: FloatArray, most: bool = False) -> IntArray:
    """Return the counts that are left if a share of each group goes, or as little or as much more as tiles ask for."""
    columns = []
    for options in search.options:
        left = (1 - shares) * options[-1]
        # A number of channels that is whole but for rounding.
        if most:
            places = np.searchsorted(options, left * (1 + ROUNDING), side="right") - 1
        else:
            places = np.searchsorted(options, left * (1 - ROUNDING))
        columns.append(options[np.maximum(places, 0)])
    return np.stack(columns, axis=1)


def _knapsacks(search: KeptOptions) -> list[IntArray]:
    """Return the choices with the most score for what the channels left count, by several mixtures with their time."""
    whole = int(search.weights @ search.full)
    time = _time(search)
    found = []
    for weight in TIME_WEIGHTS:
        each = search.weights + weight * whole * time
        costs = [price * options for price, options in zip(each, search.options, strict=True)]
        total = float(each @ search.full)
        limits = np.append(np.linspace(total, 0, STEPS, endpoint=False), each @ search.fewest)
        options = multiple_choice_knapsack(search.values, costs, limits)
        found.append(search.counts(options[(options >= 0).all(axis=1)]))
    return found


def _time(search: KeptOptions) -> FloatArray:
    """Return what a channel of each group adds to the time of the whole network, in parts that come to one."""
    groups = np.arange(len(search.full))
    fewer = np.array([options[max(len(options) - 2, 0)] for options in search.options], dtype=np.int64)
    before, after = search.marginal_costs(search.full, groups, search.full, fewer)
    each = (before - after) / np.maximum(search.full - fewer, 1)
    total = float(each @ search.full)
    return each / total if total > 0 else each


def _removed(search: KeptOptions, kept: IntArray) -> FloatArray:
    """Return the share of the channels that is gone, per candidate."""
    gone: FloatArray = (search.full - kept) @ search.weights / max(float(search.weights @ search.full), 1.0)
    return gone
