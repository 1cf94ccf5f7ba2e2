"""The multiple-choice knapsack: exactly one option of each group, the most value within a cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

IntArray = np.ndarray[Any, np.dtype[np.int64]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]


def multiple_choice_knapsack(values: Sequence[FloatArray], costs: Sequence[IntArray], capacities: IntArray) -> IntArray:
    """Return the best options for each capacity, exactly.

    Args:
        values: Per group, the value of each option.
        costs: Per group, the cost of each option, whole numbers of at least 0.
        capacities: The largest total costs to solve for, shape (K,).

    Returns:
        Option indices, shape (K, groups); a row of -1 where not even the cheapest options fit.
    """
    largest = int(capacities.max(initial=0))
    best = np.zeros(largest + 1)
    chosen = []
    for value, cost in zip(values, costs, strict=True):
        best, choice = _with_group(best, value, cost)
        chosen.append(choice)
    return _trace_back(best, chosen, costs, np.maximum(capacities, 0), capacities < 0)


def _with_group(best: FloatArray, value: FloatArray, cost: IntArray) -> tuple[FloatArray, IntArray]:
    """Return the best value at each cost limit with one more group, and the option that gives it."""
    size = len(best)
    total = np.full((len(cost), size), -np.inf)
    for option, (worth, price) in enumerate(zip(value, cost, strict=True)):
        if price < size:
            np.add(best[: size - price], worth, out=total[option, price:])
    choice = total.argmax(axis=0)
    return total[choice, np.arange(size)], choice


def _trace_back(
    best: FloatArray, chosen: list[IntArray], costs: Sequence[IntArray], left: IntArray, broken: Any
) -> IntArray:
    """Follow the choices from the last group to the first, for all capacities at once."""
    picked = np.full((len(left), len(chosen)), -1, dtype=np.int64)
    feasible = ~broken & np.isfinite(best[left])
    rest = left[feasible]
    for group in reversed(range(len(chosen))):
        option = chosen[group][rest]
        picked[feasible, group] = option
        rest = rest - costs[group][option]
    return picked
