"""The budget of channel masks: the hard mask is the choice of whole tiles, the soft limit agrees with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from smartc.core.errors import UserError
from smartc.learning.budgets.channel_budget import ChannelBudget
from smartc.selection.budget import Budget, RequestedBudget, parse_budget, resolved_budget
from smartc.selection.choose import choose
from smartc.selection.kept_options import KeptOptions
from tests.support.search_networks import removed, search_of

NETWORKS = ("residual_bottlenecks", "grouped_resnext")
BUDGETS = (
    parse_budget(0.4),
    parse_budget(None, "0.7x"),
    parse_budget(None, None, "0.6x"),
    parse_budget(None, None, None, "0.7x"),
)
# Sums of floats in another order.
ROUNDING = 1e-9


def searched(name: str, asked: RequestedBudget) -> tuple[KeptOptions, Budget]:
    """Return the search of a network for a budget, with all scores alike, and the budget of that network."""
    found = search_of(name)
    budget = resolved_budget(asked, found.layers, found.target)
    return replace(found, scores=np.ones(found.groups.count), measure=budget.measure), budget


@pytest.mark.parametrize("asked", BUDGETS, ids=lambda asked: asked.kind)
@pytest.mark.parametrize("name", NETWORKS)
def test_keeps_what_the_choice_of_tiles_keeps(name: str, asked: RequestedBudget) -> None:
    search, budget = searched(name, asked)
    found = ChannelBudget(search, budget)
    for seed in range(2):
        importance = np.random.default_rng(seed).random(search.groups.count) ** 8
        keep = found.keep(importance)
        own = replace(search, scores=importance)
        choice = choose(own, budget)
        assert np.array_equal(keep, own.kept_units(choice.kept))
        said = found.choice(keep)
        assert np.array_equal(said.kept, choice.kept)
        assert (said.reasons, said.note) == (choice.reasons, choice.note)
        if budget.kind == "sparsity":
            assert removed(search, choice.kept) >= asked.amount - ROUNDING
        else:
            assert float(search.cost(choice.kept)) <= asked.amount * float(search.cost(search.full)) * (1 + ROUNDING)


@pytest.mark.parametrize("asked", BUDGETS, ids=lambda asked: asked.kind)
@pytest.mark.parametrize("name", NETWORKS)
def test_costs_and_limit_are_finite_and_of_use_at_every_mask(name: str, asked: RequestedBudget) -> None:
    search, budget = searched(name, asked)
    found = ChannelBudget(search, budget)
    of, count = search.groups.group_of, search.groups.count
    random = np.random.default_rng(0)
    for mask in (np.ones(count), np.zeros(count), random.random(count), random.integers(0, 2, count).astype(float)):
        found.reprice(mask)
        assert found.cost is not None
        assert found.cost.shape == (count,)
        assert np.isfinite(found.cost).all()
        assert (found.cost > 0).all()
        assert all(len(np.unique(found.cost[of == group])) == 1 for group in np.unique(of))
        assert 0 < found.limit <= float(found.cost.sum()) * (1 + ROUNDING)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_limit_leaves_what_the_mask_has_not_spent(name: str) -> None:
    search, budget = searched(name, parse_budget(None, "0.8x"))
    found = ChannelBudget(search, budget)
    counts = np.array([options[len(options) // 2] for options in search.options])
    mask = replace(search, scores=np.random.default_rng(1).random(search.groups.count)).kept_units(counts)
    found.reprice(mask.astype(np.float64))
    assert found.cost is not None
    unspent = 0.8 * float(search.cost(search.full)) - float(search.cost(counts))
    least = min(float(found.cost[group.units[0]]) for group in search.groups.groups)
    assert least > 0
    assert found.limit - float(found.cost @ mask) == pytest.approx(unspent, rel=1e-6)


def test_a_smaller_share_of_time_never_takes_longer() -> None:
    search, _ = searched("residual_bottlenecks", parse_budget(None, "1x"))
    importance = np.random.default_rng(2).random(search.groups.count)
    cycles = []
    for share in np.linspace(0.5, 1, 6):
        found = ChannelBudget(*searched("residual_bottlenecks", parse_budget(None, f"{share:.6f}x")))
        cycles.append(float(search.cost(found.choice(found.keep(importance)).kept)))
    assert (np.diff(cycles) >= 0).all()


@pytest.mark.parametrize("options", [{"latency": "0.5x"}, {"macs": "0.5x"}, {"bytes": "0.5x"}, {"sparsity": 0.5}])
def test_half_of_everything_has_an_order(options: dict[str, Any]) -> None:
    """As far again from the budget as it is from the whole network nothing is left."""
    search, budget = searched("residual_bottlenecks", parse_budget(**options))
    importance = np.random.default_rng(3).random(search.groups.count)
    order = ChannelBudget(search, budget).order(importance)
    kept = choose(replace(search, scores=importance), budget).kept
    for group, count in zip(search.groups.groups, kept, strict=True):
        stay, go = np.split(np.sort(order[group.units])[::-1], [count])
        assert stay.min(initial=np.inf) > go.max(initial=-np.inf)


def test_worth_of_nothing_is_a_worth_like_another() -> None:
    for asked in BUDGETS[:2]:
        search, budget = searched("residual_bottlenecks", asked)
        found = ChannelBudget(search, budget)
        keep = found.keep(np.zeros(search.groups.count))
        assert all(keep[group.units].any() for group in search.groups.groups)


def test_says_what_cannot_be_met() -> None:
    found = ChannelBudget(*searched("grouped_resnext", parse_budget(None, "0.0001x")))
    with pytest.raises(UserError, match=r"^--latency 0\.0001x: removing channels makes the model at best "):
        found.keep(np.ones(found.search.groups.count))
