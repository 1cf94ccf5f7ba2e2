"""The two searches: budgets are met, whole tiles are kept, tighter budgets are never slower."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from smartc.core.errors import UserError
from smartc.selection import choose as choose_module
from smartc.selection import kept_options as search_module
from smartc.selection.choose import KeptOptions, choose
from smartc.targets.latency import LayerCosts, modelled_costs
from smartc.targets.target import Target, load_target
from smartc.targets.workload import Workload
from tests.support.search_networks import (
    NETWORKS,
    budget_for,
    chain,
    every_choice,
    removed,
    score,
    search,
    search_of,
    shares,
    wide_array,
)

IMAGE = torch.zeros(2, 3, 6, 6)


def by_latency(search: KeptOptions, share: float) -> choose_module.Choice:
    """Return the choice for a share of the whole network's time."""
    return choose(search, budget_for(search, None, f"{share:.9f}x"))


@pytest.mark.slow
@pytest.mark.parametrize("exhaustive", [0, 2000])
@pytest.mark.parametrize("name", NETWORKS)
def test_latency_budgets_are_met_and_monotone(name: str, exhaustive: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "EXHAUSTIVE", exhaustive)
    network = search_of(name)
    dense, last = network.latency(network.full), np.inf
    for share in shares(network, 25):
        latency = network.latency(by_latency(network, share).kept)
        cycles = float(latency.total.sum())
        assert cycles <= share * float(dense.total.sum()) * (1 + 1e-8)
        assert cycles <= last
        assert (latency.total <= dense.total).all()
        last = cycles


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_sparsity_budgets_are_met_and_monotone(name: str) -> None:
    network = search_of(name)
    dense, last = network.latency(network.full), np.inf
    most = removed(network, choose(network, budget_for(network, 0.999, None)).kept)
    for share in np.linspace(0, most, 25):
        choice = choose(network, budget_for(network, float(share), None))
        latency = network.latency(choice.kept)
        assert removed(network, choice.kept) >= share - 1e-9
        assert not choice.note
        assert float(latency.total.sum()) <= last
        assert (latency.total <= dense.total).all()
        last = float(latency.total.sum())


def evenly(search: KeptOptions, share: float) -> float:
    """Return the cost where a share of each group goes, or as little less as whole tiles ask for."""
    left = [(1 - share) * size - 1e-9 for size in search.full]
    counts = [options[options >= size][0] for options, size in zip(search.options, left, strict=True)]
    return float(search.cost(np.array(counts)))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_share_of_the_channels_is_no_slower_than_that_share_of_every_layer(name: str) -> None:
    network = search_of(name)
    most = removed(network, choose(network, budget_for(network, 0.999, None)).kept)
    for share in np.linspace(0, most, 30):
        kept = choose(network, budget_for(network, float(share), None)).kept
        assert float(network.cost(kept)) <= evenly(network, float(share)) * (1 + 1e-9)


@pytest.mark.parametrize("exhaustive", [search_module.EXHAUSTIVE, 0])
@pytest.mark.parametrize("name", ["plain_chain", "residual_projection", "c2f_chunk", "unet_transposed"])
def test_sparsity_keeps_next_to_the_best_score_of_all_that_are_as_fast(
    name: str, exhaustive: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "EXHAUSTIVE", exhaustive)
    network = search_of(name)
    every, cycles, scores = every_choice(network)
    gone = 1 - every @ network.weights / float(network.weights @ network.full)
    for share in (0.2, 0.35, 0.5, 0.6):
        choice = choose(network, budget_for(network, share, None))
        best = scores[(gone >= share - 1e-9) & (cycles <= evenly(network, share) * (1 + 1e-9))].max()
        # The best for a smaller share may be faster, and then this must not be slower.
        assert score(network, choice.kept) >= 0.99 * best


@pytest.mark.parametrize("name", ["plain_chain", "residual_projection", "squeeze_excite_linear"])
def test_latency_finds_the_best_score_where_choices_are_few(name: str) -> None:
    network = search_of(name)
    _, cycles, scores = every_choice(network)
    assert len(scores) <= search_module.EXHAUSTIVE
    for share in shares(network, 12):
        within = cycles <= share * float(network.cost(network.full)) * (1 + 1e-9)
        assert score(network, by_latency(network, share).kept) == pytest.approx(scores[within].max(), rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["c2f_chunk", "inverted_residual", "unet_transposed", "inception_branches"])
def test_latency_is_close_to_the_best_score_elsewhere(name: str) -> None:
    network = search_of(name)
    _, cycles, scores = every_choice(network)
    assert len(scores) > search_module.EXHAUSTIVE
    for share in shares(network, 15):
        within = cycles <= share * float(network.cost(network.full)) * (1 + 1e-9)
        assert score(network, by_latency(network, share).kept) >= 0.97 * scores[within].max()


def test_latency_lands_just_below_the_budget() -> None:
    network = search(chain(*[64] * 24), IMAGE, load_target("npu-8x8"))
    for share in (0.8, 0.5, 0.2):
        cycles = float(network.cost(by_latency(network, share).kept)) / float(network.cost(network.full))
        assert share * 0.99 < cycles <= share


@pytest.mark.slow
@pytest.mark.parametrize("target", ["npu-8x8", "npu-16x16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_counts_fill_tiles_or_say_why(name: str, target: str) -> None:
    network = search_of(name, target)
    choice = choose(network, budget_for(network, 0.5, None))
    for count, size, reason in zip(choice.kept, network.full, choice.reasons, strict=True):
        assert count == size or count % network.target.align.cout == 0 or "tiles" in reason


def test_small_channel_groups_of_grouped_convolutions_lose_half() -> None:
    # As in RegNet-Y: 13 groups of 8 channels, so that no count short of all fills tiles everywhere.
    network = search(chain(104, 104, 104, groups=(1, 13)), IMAGE, load_target("npu-8x8"))
    choice = choose(network, budget_for(network, 0.5, None))
    assert network.full.tolist() == [8, 8, 104]
    assert 0.5 <= removed(network, choice.kept) < 0.53
    small = choice.kept[:2]
    assert (small < 8).any()
    assert choice.reasons[int(small.argmin())] == (
        f"keeps {small.min()} of 8 channels; 8 are too few for whole tiles of 8"
    )


def test_reasons_say_what_was_done() -> None:
    network = search(chain(32, 8, 24), IMAGE, load_target("npu-8x8"))
    choice = choose(network, budget_for(network, None, "0.7x"))
    assert choice.reasons[1] == "its 8 channels fill no more than one tile"
    for count, size, reason in zip(choice.kept, network.full, choice.reasons, strict=True):
        if size > 8:
            assert reason == (
                f"keeps {count} of {size} channels" if count < size else "the budget is met without removing any"
            )


def test_a_cut_that_saves_nothing_is_not_made() -> None:
    network = search(chain(64, 64), IMAGE, wide_array(load_target("npu-8x8")))
    choice = choose(network, budget_for(network, 0.5, None))
    assert choice.kept.tolist() == [64, 64]
    assert choice.reasons == ("removing some would save no time",) * 2
    assert choice.note == "only 0.0% of the channels can be removed in whole tiles"


@pytest.mark.parametrize("name", ["nothing_to_remove", "no_parameters", "returns_its_input"])
def test_networks_without_channels_stay_as_they_are(name: str) -> None:
    network = search_of(name)
    for budget in (budget_for(network, 0.5), budget_for(network, None, "1x")):
        choice = choose(network, budget)
        assert (choice.kept.tolist(), choice.reasons, choice.note) == ([], (), "no channel can be removed")


def test_a_time_out_of_reach_names_one_that_is_not() -> None:
    network = search_of("plain_chain")
    with pytest.raises(UserError) as caught:
        choose(network, budget_for(network, None, "0.01x"))
    words = str(caught.value).split()
    share, milliseconds = words[8], words[9].strip("(")
    assert str(caught.value) == (
        f"latency='0.01x': removing channels makes the model at best {share} ({milliseconds} ms) on npu-8x8. "
        "Ask for no less than that."
    )
    for reachable in (share, f"{milliseconds}ms"):
        assert len(choose(network, budget_for(network, None, reachable)).kept) == 3


def test_scores_of_zero_and_of_very_different_size_are_no_trap() -> None:
    network = search_of("plain_chain")
    for scores in (np.zeros(len(network.scores)), 10.0 ** np.linspace(-300, 300, len(network.scores))):
        other = KeptOptions(network.layers, network.target, scores)
        assert removed(other, choose(other, budget_for(other, 0.5, None)).kept) >= 0.5
        assert float(other.cost(by_latency(other, 0.5).kept)) <= 0.5 * float(other.cost(other.full)) * (1 + 1e-8)


class Counter:
    """Counts how many layers are priced."""

    def __init__(self) -> None:
        self.layers = 0

    def __call__(self, target: Target, work: Workload) -> LayerCosts:
        """Price layers."""
        self.layers += int(np.prod(work.shape))
        return modelled_costs(target, work)


@pytest.mark.slow
@pytest.mark.parametrize("budget", [(0.5, None), (None, "0.9x"), (None, "0.7x")])
def test_work_grows_in_proportion_to_the_layers(
    budget: tuple[float | None, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    priced = []
    for depth in (50, 200):
        network = search(nn.Sequential(chain(*[16] * depth)), IMAGE, load_target("npu-8x8"))
        counter = Counter()
        monkeypatch.setattr("smartc.targets.target.modelled_costs", counter)
        choose(network, budget_for(network, *budget))
        priced.append(counter.layers)
    assert priced[1] < 5 * priced[0]
