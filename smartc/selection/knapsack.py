"""The multiple-choice knapsack: exactly one option of each group, the most value within a cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

IntArray = np.ndarray[Any, np.dtype[np.int64]]
Codes = np.ndarray[Any, np.dtype[np.int32]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]

# Costs are sums of floats; what exceeds a capacity by less than this share is rounding.
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class _States:
    """The best choice among the first groups for each whole number of ticks.

    Its true cost is carried along, so that rounding to ticks does not add up over the groups.
    """

    value: FloatArray  # -inf where no choice costs that much
    cost: FloatArray  # in ticks; at least the index, and less than one more


def multiple_choice_knapsack(
    values: Sequence[FloatArray],
    costs: Sequence[Any],
    capacities: Any,
    tick: float = 1.0,
    slack: float = np.inf,
) -> IntArray:
    """Return the best options for each capacity.

    No choice costs more than its capacity.  It is the best where all costs are multiples of the tick;
    elsewhere the cheaper of two that differ by less than a tick may be lost.

    Args:
        values: Per group, the value of each option.
        costs: Per group, the cost of each option, at least 0.
        capacities: The largest total costs to solve for, shape (K,).
        tick: The resolution of costs.
        slack: A choice that leaves more than this of its capacity is taken only where no other is left.

    Returns:
        Option indices, shape (K, groups); a row of -1 where not even the cheapest options fit.
    """
    most = sum(float(np.max(cost)) for cost in costs)
    limits = np.minimum(np.asarray(capacities, dtype=np.float64), most) * (1 + ROUNDING) / tick
    size = int(max(limits.max(initial=0.0), 0.0)) + 1
    states = _States(np.zeros(1), np.zeros(1))
    chosen, prices = [], [np.asarray(cost, dtype=np.float64) / tick for cost in costs]
    for value, price in zip(values, prices, strict=True):
        states, choice = _with_group(states, value, price, size)
        chosen.append(choice)
    return _trace_back(_best_states(states, limits, slack / tick), chosen, prices)


def _with_group(states: _States, value: FloatArray, price: FloatArray, most: int) -> tuple[_States, Codes]:
    """Return the states with one more group, and what gave each: twice the option, plus one if ticks carried."""
    size, places = len(states.value), np.arange(len(states.value))
    best = np.full(min(most, size + int(price.max()) + 1), -np.inf)
    choice = np.zeros(len(best), dtype=np.int32)  # kept for every group: the most memory of all
    beyond = states.cost - places
    for option, (worth, cost) in enumerate(zip(value, price, strict=True)):
        worths, whole = states.value + worth, int(cost)
        carries = beyond + (cost - whole) >= 1
        if not carries.any():
            _improve(best, choice, worths, whole, 2 * option)
        else:
            _improve(best, choice, np.where(carries, -np.inf, worths), whole, 2 * option)
            _improve(best, choice, np.where(carries, worths, -np.inf), whole + 1, 2 * option + 1)
    source = np.clip(np.arange(len(best)) - _ticks(price)[choice], 0, size - 1)
    return _States(best, states.cost[source] + np.repeat(price, 2)[choice]), choice


def _improve(best: FloatArray, choice: Codes, worths: FloatArray, shift: int, code: int) -> None:
    """Take what is worth more, in place; ``worths`` is for states of so many ticks less."""
    worths = worths[: max(len(best) - shift, 0)]
    part = slice(shift, shift + len(worths))
    better = worths > best[part]
    np.copyto(best[part], worths, where=better)
    np.copyto(choice[part], code, where=better)


def _ticks(price: FloatArray) -> IntArray:
    """Return how many whole ticks each code of a choice adds."""
    return np.repeat(price.astype(np.int64), 2) + np.tile([0, 1], len(price))


def _best_states(states: _States, limits: FloatArray, slack: float) -> IntArray:
    """Return for each limit the place of the best state within it; -1 where there is none."""
    found = np.full(len(limits), -1, dtype=np.int64)
    for index, limit in enumerate(limits):
        within = np.where(states.cost <= limit, states.value, -np.inf)[: int(max(limit, -1.0)) + 1]
        close = np.where(states.cost[: len(within)] >= limit - slack, within, -np.inf)
        chosen = close if np.isfinite(close).any() else within
        if np.isfinite(chosen).any():
            found[index] = chosen.argmax()
    return found


def _trace_back(places: IntArray, chosen: list[Codes], prices: list[FloatArray]) -> IntArray:
    """Follow the choices from the last group to the first, for all capacities at once."""
    picked = np.full((len(places), len(chosen)), -1, dtype=np.int64)
    feasible = places >= 0
    rest = places[feasible]
    for group in reversed(range(len(chosen))):
        choice = chosen[group][rest]
        picked[feasible, group] = choice // 2
        rest = rest - _ticks(prices[group])[choice]
    return picked
