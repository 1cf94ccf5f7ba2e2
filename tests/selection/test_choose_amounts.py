"""Budgets of multiply-accumulates and of bytes of weights: met, monotone, in whole tiles, never slower."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from smartc.core.errors import UserError
from smartc.selection import kept_options as search_module
from smartc.selection.budget import Budget
from smartc.selection.choose import Choice, KeptOptions, choose
from smartc.targets.latency import Measure
from smartc.targets.target import load_target
from tests.support.cost_tables import by_work, target
from tests.support.search_networks import (
    NETWORKS,
    budget_for,
    chain,
    every_choice,
    score,
    search,
    search_of,
    shares,
    wide_array,
)

IMAGE = torch.zeros(2, 3, 6, 6)
MEASURES: tuple[Measure, ...] = ("macs", "bytes")


def asking(search: KeptOptions, text: str) -> Budget:
    """Return a budget of what a search counts."""
    return budget_for(search, **{search.measure: text})


def by_cost(search: KeptOptions, share: float) -> Choice:
    """Return the choice for a share of what the whole network costs."""
    return choose(search, asking(search, f"{share:.9f}x"))


def counted(search: KeptOptions, kept: Any) -> float:
    """Return the MACs or bytes of what is kept, from the figures of the layers."""
    latency = search.latency(kept)
    return float((latency.macs if search.measure == "macs" else latency.weight_bytes).sum())


@pytest.mark.slow
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("name", NETWORKS[1:])
def test_budgets_of_macs_and_bytes_are_met_and_monotone(
    name: str, measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "EXHAUSTIVE", 0)
    network = replace(search_of(name), measure=measure)
    dense, last = network.latency(network.full), np.inf
    for share in shares(network, 4):
        kept = by_cost(network, share).kept
        cost = counted(network, kept)
        assert cost <= share * counted(network, network.full) * (1 + 1e-8)
        assert cost <= last
        assert (network.latency(kept).total <= dense.total).all()
        last = cost


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("name", ["plain_chain", "residual_projection", "squeeze_excite_linear"])
def test_macs_and_bytes_find_the_best_score_where_choices_are_few(name: str, measure: Measure) -> None:
    network = replace(search_of(name), measure=measure)
    _, costs, scores = every_choice(network)
    for share in shares(network, 12):
        within = costs <= share * counted(network, network.full) * (1 + 1e-9)
        assert score(network, by_cost(network, share).kept) == pytest.approx(scores[within].max(), rel=1e-12)


@pytest.mark.parametrize("measure", MEASURES)
def test_macs_and_bytes_land_just_below_the_budget(measure: Measure) -> None:
    network = replace(search(chain(*[64] * 12), IMAGE, load_target("npu-8x8")), measure=measure)
    for share in (0.8, 0.5, 0.2):
        reached = counted(network, by_cost(network, share).kept) / counted(network, network.full)
        assert share * 0.98 < reached <= share


def test_macs_of_a_processor_go_where_they_save_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "EXHAUSTIVE", 0)
    # Layers that narrow take three times as long for their MACs as those that widen.
    slow_where_wide = target(lambda point: by_work(point) * (3 if point.cin > point.cout else 1), blocks=False)
    network = replace(search(chain(64, 128, 64, 128, 64), IMAGE, slow_where_wide), measure="macs")
    assert network.guide.measure == "latency"
    assert replace(network, measure="bytes").guide.measure == "bytes"
    last = np.inf
    for share in shares(network, 6):
        kept = by_cost(network, share).kept
        cost = counted(network, kept)
        assert cost <= min(share * counted(network, network.full) * (1 + 1e-8), last)
        last = cost
    times = [float(network.latency(by_cost(network, 0.5).kept).total.sum())]
    monkeypatch.setattr(KeptOptions, "guide", property(lambda self: self))
    times.append(float(network.latency(by_cost(network, 0.5).kept).total.sum()))
    assert times[0] < times[1]


def test_amounts_are_those_of_the_layers() -> None:
    network = search(chain(64, 64), IMAGE, load_target("npu-8x8"))
    macs, size = 36 * (64 * 3 + 64 * 64 + 64 * 5), 64 * (8 + 64 + 8)
    for measure, whole in zip(MEASURES, (macs, size), strict=True):
        assert counted(replace(network, measure=measure), network.full) == whole
    by_macs, by_size = (replace(network, measure=measure) for measure in MEASURES)
    assert counted(by_macs, choose(by_macs, budget_for(by_macs, macs="100k")).kept) <= 100e3
    assert counted(by_size, choose(by_size, budget_for(by_size, bytes="2KiB")).kept) <= 2048


@pytest.mark.parametrize("measure", MEASURES)
def test_trials_cost_what_the_layers_that_they_touch_cost(measure: Measure) -> None:
    network = replace(search_of("c2f_chunk"), measure=measure)
    kept = network.fewest
    for group, options in enumerate(network.options):
        trial = kept.copy()
        trial[group] = options[-1]
        before, after = network.marginal_cost(kept, np.array([group, group]), np.array([kept[group], options[-1]]))
        assert after - before == counted(network, trial) - counted(network, kept)


@pytest.mark.parametrize("measure", MEASURES)
def test_macs_and_bytes_out_of_reach_name_some_that_are_not(measure: Measure) -> None:
    network = replace(search_of("plain_chain"), measure=measure)
    with pytest.raises(UserError) as caught:
        choose(network, asking(network, "0.001x"))
    share, amount = (word.strip("()") for word in str(caught.value).split()[6:8])
    what = {"macs": "MACs", "bytes": "bytes of weights on npu-8x8"}[measure]
    assert str(caught.value) == (
        f"{measure}='0.001x': removing channels leaves at least {share} ({amount}) of the {what}. "
        "Ask for no less than that."
    )
    for reachable in (share, amount):
        assert len(choose(network, asking(network, reachable)).kept) == 3


def test_a_cut_that_saves_no_bytes_is_not_made_but_one_that_saves_macs_is() -> None:
    network = search(chain(64, 64), IMAGE, wide_array(load_target("npu-8x8")))
    by_size, by_macs = (replace(network, measure=measure) for measure in reversed(MEASURES))
    choice = choose(by_size, budget_for(by_size, bytes="1x"))
    assert choice.kept.tolist() == [64, 64]
    assert choice.reasons == ("removing some would save no bytes",) * 2
    assert (choose(by_macs, budget_for(by_macs, macs="0.5x")).kept < 64).any()
    assert choose(by_macs, budget_for(by_macs, macs="1x")).reasons == ("the budget is met without removing any",) * 2


def test_a_search_must_count_what_the_budget_does() -> None:
    with pytest.raises(ValueError, match=r"^the search counts latency, the budget macs$"):
        choose(search_of("plain_chain"), budget_for(search_of("plain_chain"), macs="0.5x"))
