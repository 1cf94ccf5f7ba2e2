"""Repeated blocks keep one width: the groups that are alike are found, and every search moves them together."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import smartc
from smartc.analysis.find_channel_groups import find_channel_groups
from smartc.artifact.compiled import Compiled
from smartc.decision.decision import Decision
from smartc.frontend.capture import trace
from smartc.measuring.put_back import _with_blocks_alike
from smartc.selection import kept_options
from smartc.selection.choose import choose
from smartc.selection.choose_by_result import choose_by_result
from smartc.selection.repeated import alike, evened, repeats_told
from smartc.selection.uniform_options import UniformOptions
from smartc.targets.target import load_target
from tests.support.own_classes import CHANNELS, TOKENS, Repeating
from tests.support.search_networks import budget_for, chain, search

TOKEN = torch.randn(2, TOKENS, CHANNELS, generator=torch.Generator().manual_seed(0))
NPU = load_target("npu-8x8")
TOLD = "repeated blocks are as wide as one another: 6 groups of channels have 2 widths"


def _network() -> nn.Module:
    """Return layers that are alike."""
    torch.manual_seed(0)
    return Repeating().eval()


def _uniform(module: nn.Module | None = None, inputs: torch.Tensor = TOKEN) -> UniformOptions:
    """Return the search of a network in which alike groups are one item."""
    found = search(module or _network(), inputs, NPU)
    return UniformOptions(found.layers, found.target, found.scores)


def _widths(compiled: Compiled) -> dict[str, set[int]]:
    """Return the kept counts of the groups of each place in a layer."""
    found: dict[str, set[int]] = {}
    for group in compiled.plan.groups:
        place = "".join("N" if part.isdigit() else part for part in group.name.split("."))
        found.setdefault(place, set()).add(group.kept)
    return found


@cache
def _compiled(**options: Any) -> Compiled:
    """Compile the network."""
    return smartc.compile(_network(), TOKEN, target="npu-8x8", backends=(), **options)


def test_groups_at_one_place_of_repeated_blocks_are_alike() -> None:
    groups = find_channel_groups(trace(_network(), TOKEN))
    names = [group.name for group in groups.groups]
    places = ["feed" if "feed" in name else "last" if "last" in name else "attention" for name in names]
    numbers = alike(groups)
    assert len(names) == 7
    for place in set(places):
        assert len({number for number, own in zip(numbers, places, strict=True) if own == place}) == 1
    assert len(set(numbers)) == 3
    assert repeats_told(groups) == TOLD


@pytest.mark.parametrize("widths", [(16, 16, 16, 16), (16, 24)])
def test_layers_of_one_chain_are_no_blocks(widths: tuple[int, ...]) -> None:
    groups = find_channel_groups(trace(chain(*widths), torch.zeros(2, 3, 4, 4)))
    assert len(set(alike(groups))) == len(groups.groups)
    assert repeats_told(groups) == "no blocks repeat, so that no widths had to be the same"


@pytest.mark.parametrize(
    "budget",
    [{"sparsity": 0.5}, {"latency": "0.7x"}, {"macs": "0.7x"}, {"bytes": "0.7x"}],
    ids=lambda budget: next(iter(budget)),
)
def test_every_budget_is_met_with_one_width(budget: dict[str, Any]) -> None:
    assert any(len(widths) > 1 for widths in _widths(_compiled(**budget)).values())
    compiled = _compiled(**budget, uniform=True)
    assert all(len(widths) == 1 for widths in _widths(compiled).values())
    assert TOLD in next(remark.text for remark in compiled.report.remarks if remark.where == "budget")
    count, of = compiled.report.summary, compiled.report.latency
    assert count.removed_channels > 0
    if "latency" in budget:
        assert of.speed_up >= 1 / 0.7 * (1 - 1e-6)


def test_which_channels_stay_may_differ() -> None:
    kept = [
        tuple(entry["axes"][0]["kept"])
        for name, entry in _compiled(sparsity=0.5, uniform=True).plan.tensors.items()
        if name.startswith("feed") and name.endswith("up.weight")
    ]
    assert len(kept) == len(set(kept)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("learner", ["smart", "taylor"])
def test_learned_channels_have_one_width(learner: str) -> None:
    settings = smartc.Settings(steps=6)
    compiled = _compiled(granularity="channel", data=TOKEN, learner=learner, settings=settings, uniform=True)
    assert all(len(widths) == 1 for widths in _widths(compiled).values())


@pytest.mark.slow
def test_a_prepared_model_has_one_width() -> None:
    options: dict[str, Any] = {"target": "npu-8x8", "granularity": "channel", "steps": 3, "uniform": True}
    loop = smartc.prepare(_network(), TOKEN, **options)
    for _ in range(3):
        loss = loop.model(TOKEN).square().mean()
        loss.backward()
        loop.step(loss)
    assert all(len(widths) == 1 for widths in _widths(loop.finish(backends=())).values())


def test_channels_that_blocks_leave_unread_are_evened() -> None:
    compiled = _compiled(granularity="8x8", sparsity=0.9, learner="magnitude", uniform=True)
    assert all(len(widths) == 1 for widths in _widths(compiled).values())


def test_evened_groups_keep_what_they_kept_and_as_many_as_the_widest() -> None:
    groups = find_channel_groups(trace(_network(), TOKEN))
    keep = np.random.default_rng(0).random(groups.count) < 0.5
    more = evened(groups, keep)
    assert (more >= keep).all()
    counts = [int(more[group.units].sum()) for group in groups.groups]
    for number in set(alike(groups)):
        members = np.flatnonzero(alike(groups) == number)
        most = max(int(keep[groups.groups[member].units].sum()) for member in members)
        assert {counts[member] for member in members} == {most}


def test_where_one_block_is_put_back_all_are() -> None:
    options = _uniform()
    decided = choose(options, budget_for(options, 0.5))
    decision = Decision(trace(_network(), TOKEN), options.each_group, decided, options.kept_units(decided.kept))
    number = next(place for place, group in enumerate(options.groups.groups) if "feed.1" in group.name)
    found = _with_blocks_alike(decision, {number: "is slow"})
    names = {options.groups.groups[place].name: reason for place, reason in found.items()}
    text = "is as wide as the blocks like it, of which one does not pay with fewer channels"
    assert names == {"feed.0.up": text, "feed.1.up": "is slow", "feed.2.up": text}


@pytest.mark.parametrize("exhaustive", [0, 2000])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_where_nothing_repeats_the_choice_is_the_same(
    exhaustive: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_options, "EXHAUSTIVE", exhaustive)
    uniform = _uniform(chain(32, 48, 32, groups=(1, 1, 4)), torch.zeros(2, 3, 6, 6))
    for given in ((share, None), (None, f"{1 - share / 2}x")):
        budget = budget_for(uniform, *given)
        assert np.array_equal(choose(uniform, budget).kept, choose(uniform.each_group, budget).kept)


@pytest.mark.parametrize("make", [_network, lambda: nn.Sequential(*(Shared() for _ in range(2)))])
def test_the_cost_of_a_trial_is_what_the_whole_network_changes_by(make: Callable[[], nn.Module]) -> None:
    uniform = _uniform(make().eval())
    random = np.random.default_rng(0)
    for _ in range(10):
        kept = np.array([random.choice(options) for options in uniform.options])
        items = np.arange(len(kept))
        counts = np.array([random.choice(options) for options in uniform.options])
        before, after = uniform.marginal_costs(kept, items, kept, counts)
        for item in items:
            other = np.where(items == item, counts, kept)
            change = float(uniform.cost(other) - uniform.cost(kept))
            assert after[item] - before[item] == pytest.approx(change, rel=1e-9, abs=1e-6)


class Shared(nn.Module):
    """Layers in which one block's channels are read together with the next one's."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(CHANNELS, 64) for _ in range(2))
        self.down = nn.Linear(128, CHANNELS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens, shape (N, tokens, channels)."""
        return self.down(torch.cat([torch.relu(block(x)) for block in self.blocks], dim=-1))


def test_a_result_that_costs_more_than_foreseen_is_chosen_again_with_one_width() -> None:
    uniform = _uniform()
    budget = budget_for(uniform, None, "0.8x")
    choice = choose_by_result(uniform, budget, lambda keep: 1.05 * float(_cost(uniform, keep)))
    assert 1.05 * float(uniform.each_group.cost(choice.kept)) <= budget.limit * (1 + 1e-9)
    for groups in uniform.members:
        assert len(set(choice.kept[groups])) == 1


def _cost(search: UniformOptions, keep: np.ndarray[Any, Any]) -> float:
    """Return the foreseen cost of what is kept."""
    kept = np.array([int(keep[group.units].sum()) for group in search.groups.groups])
    return float(search.each_group.cost(kept))
