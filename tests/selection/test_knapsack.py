"""The knapsack against brute force."""

from __future__ import annotations

from itertools import product
from typing import Any

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


def steps_of(generator: np.random.Generator, groups: int) -> tuple[list[Any], list[Any]]:
    """Return values that grow with falling steps, and costs in which each step of a group is the same."""
    lengths = generator.integers(3, 12, groups)
    values = [np.cumsum(np.sort(generator.random(length))[::-1]) for length in lengths]
    return values, [np.arange(1, length + 1) * float(generator.integers(1, 9)) for length in lengths]


def best_value(values: list[Any], costs: list[Any], limit: int) -> float:
    """Return the most value of whole costs within a limit, by the textbook's table."""
    best = np.zeros(limit + 1)
    for value, cost in zip(values, costs, strict=True):
        options = [
            np.append(np.full(min(int(c), limit + 1), -np.inf), best[: max(limit + 1 - int(c), 0)] + v)
            for v, c in zip(value, cost, strict=True)
        ]
        best = np.max(options, axis=0)
    return float(best.max())


def test_many_choices_are_next_to_the_best_and_within_a_step_of_it() -> None:
    short = []
    for seed in range(12):
        values, costs = steps_of(np.random.default_rng(seed), 6)
        limits = np.linspace(sum(cost[0] for cost in costs), sum(cost[-1] for cost in costs), 30)
        picked = multiple_choice_knapsack(values, costs, limits)
        for limit, row in zip(limits, picked, strict=True):
            assert sum(cost[i] for cost, i in zip(costs, row, strict=True)) <= limit
            value = sum(value[i] for value, i in zip(values, row, strict=True))
            best = best_value(values, costs, int(limit))
            assert value > best - max(np.diff(value).max() for value in values)
            short.append(1 - value / best)
    assert np.mean(short) < 0.001
    assert np.mean(np.array(short) < 1e-12) > 0.75


def test_what_no_step_of_a_hull_reaches_is_not_chosen() -> None:
    # The middle option is worth less than half of the way to the last one, at half of the cost.
    values, costs = [np.array([0.0, 1.0, 10.0])] * 12, [np.array([0.0, 5.0, 10.0])] * 12
    picked = multiple_choice_knapsack(values, costs, [0.0, 25.0, 120.0])
    assert sorted(picked[1].tolist()) == [0] * 10 + [2] * 2
    assert (picked[0].tolist(), picked[2].tolist()) == ([0] * 12, [2] * 12)


def test_groups_of_the_same_worth_are_cut_alike() -> None:
    values = [np.arange(1.0, 17.0)] * 4 + [np.arange(2.0, 34.0, 2)]
    costs = [0.1 * np.arange(1.0, 17.0)] * 4 + [0.2 * np.arange(1.0, 17.0)]
    picked = multiple_choice_knapsack(values, costs, [4.8])
    assert picked.min() >= 6
    assert picked.max() <= 9


def test_never_overspends() -> None:
    generator = np.random.default_rng(0)
    costs = [np.sort(generator.random(5)) for _ in range(40)]
    values = [np.sort(generator.random(5)) for _ in range(40)]
    limits = np.linspace(2, 30, 9)
    picked = multiple_choice_knapsack(values, costs, limits)
    spent = [sum(cost[i] for cost, i in zip(costs, row, strict=True)) for row in picked if (row >= 0).all()]
    assert len(spent) >= 6
    assert all(cost <= limit for cost, limit in zip(spent, limits[-len(spent) :], strict=True))


def test_equal_costs_and_values_of_very_different_size_are_no_trap() -> None:
    values = [10.0 ** np.linspace(-300, 300, 20)] * 3 + [np.zeros(20)] * 3
    costs = [np.repeat(np.arange(5.0), 4)] * 6
    picked = multiple_choice_knapsack(values, costs, [-1.0, 0.0, 12.0, 24.0])
    assert picked[0].tolist() == [-1] * 6
    # What costs no more is taken.
    assert picked[1].tolist() == [3] * 6
    assert picked[2, :3].tolist() == [19] * 3
    assert picked[3].tolist() == [19] * 6
