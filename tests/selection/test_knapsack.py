"""The knapsack against brute force."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from smartc.selection.knapsack import multiple_choice_knapsack

GROUPS = st.lists(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 50)), min_size=1, max_size=4), min_size=1, max_size=5
)


@given(GROUPS, st.integers(0, 45))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_finds_the_most_value_within_each_capacity(groups: list[list[tuple[int, int]]], capacity: int) -> None:
    costs = [np.array([cost for cost, _ in options]) for options in groups]
    values = [np.array([float(value) for _, value in options]) for options in groups]
    capacities = np.array([capacity, capacity // 2, 0])
    picked = multiple_choice_knapsack(values, costs, capacities)
    for limit, row in zip(capacities, picked, strict=True):
        choices = list(product(*(range(len(options)) for options in groups)))
        fitting = [c for c in choices if sum(cost[i] for cost, i in zip(costs, c, strict=True)) <= limit]
        if not fitting:
            assert (row == -1).all()
            continue
        best = max(sum(value[i] for value, i in zip(values, c, strict=True)) for c in fitting)
        assert sum(cost[i] for cost, i in zip(costs, row, strict=True)) <= limit
        assert sum(value[i] for value, i in zip(values, row, strict=True)) == best


def test_a_coarse_tick_never_overspends() -> None:
    generator = np.random.default_rng(0)
    costs = [np.sort(generator.random(5)) for _ in range(40)]
    values = [np.sort(generator.random(5)) for _ in range(40)]
    limits = np.linspace(2, 30, 9)
    picked = multiple_choice_knapsack(values, costs, limits, tick=0.05)
    spent = [sum(cost[i] for cost, i in zip(costs, row, strict=True)) for row in picked if (row >= 0).all()]
    assert len(spent) >= 6
    assert all(cost <= limit for cost, limit in zip(spent, limits[-len(spent) :], strict=True))
