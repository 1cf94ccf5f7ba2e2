"""The two searches: budgets are met, whole tiles are kept, tighter budgets are never slower."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from smartc.capture import trace
from smartc.choose import Search, choose, parse_budget
from smartc.errors import UserError
from smartc.passes.find_channel_groups import find_channel_groups
from smartc.passes.find_layers import find_layers
from smartc.passes.remove_channels import RemoveChannels
from smartc.scores import unit_scores
from smartc.targets.latency import price
from smartc.targets.target import load_target
from tests.zoo import build

NETWORKS = ("residual_bottlenecks", "dense_concat", "inverted_residual", "shufflenet_unit_view", "unet_transposed")


def _search(name: str, target: str = "npu-8x8") -> Search:
    """Return the search of one network of the zoo, with random scores."""
    module, inputs = build(name, dtype=torch.float32)
    model = trace(module, inputs)
    groups = find_channel_groups(model)
    scores = unit_scores(model, groups, "sp-lamp") * np.random.default_rng(0).uniform(0.5, 1, groups.count)
    return Search(find_layers(model, groups), load_target(target), scores)


def _removed(search: Search, kept: np.ndarray) -> float:  # type: ignore[type-arg]
    """Return the share of channels removed."""
    return 1 - float(search.weights @ kept) / float(search.weights @ search.full)


@pytest.mark.parametrize("name", NETWORKS)
def test_latency_budgets_are_met_and_monotone(name: str) -> None:
    search = _search(name)
    dense = search.latency(search.full)
    fastest = float(search.cycles(search.fewest)) / float(dense.total.sum())
    last = np.inf
    for share in np.linspace(1, min(fastest * 1.01, 1), 25):
        kept = choose(search, parse_budget(None, f"{share:.6f}x")).kept
        latency = search.latency(kept)
        cycles = float(latency.total.sum())
        assert cycles <= share * float(dense.total.sum()) * (1 + 1e-6)
        assert cycles <= last
        assert (latency.total <= dense.total * (1 + 1e-12)).all()
        last = cycles


@pytest.mark.parametrize("name", NETWORKS)
def test_sparsity_budgets_are_met_and_monotone(name: str) -> None:
    search = _search(name)
    most, last = _removed(search, search.fewest), np.inf
    for share in np.linspace(0, most * 0.98, 25):
        choice = choose(search, parse_budget(float(share), None))
        cycles = float(search.cycles(choice.kept))
        assert _removed(search, choice.kept) >= share - 1e-9 or choice.note
        assert cycles <= last * (1 + 1e-12)
        last = cycles


@pytest.mark.parametrize("target", ["npu-8x8", "npu-16x16"])
def test_counts_fill_tiles_or_say_why(target: str) -> None:
    search = _search("residual_bottlenecks", target)
    choice = choose(search, parse_budget(0.5, None))
    for count, size, reason in zip(choice.kept, search.full, choice.reasons, strict=True):
        assert count % search.target.align.cout == 0 or count == size or "tile" in reason


def test_sparsity_is_exact_on_a_small_network() -> None:
    search = _search("plain_chain")
    kept = choose(search, parse_budget(0.4, None)).kept
    score = sum(
        np.sort(search.scores[g.units])[::-1][:k].sum() for g, k in zip(search.groups.groups, kept, strict=True)
    )
    best = max(
        sum(value[i] for value, i in zip(search.values, places, strict=True))
        for places in product(*(range(len(options)) for options in search.options))
        if _removed(search, np.array([o[i] for o, i in zip(search.options, places, strict=True)])) >= 0.4 - 1e-9
    )
    assert score >= best * (1 - 1e-9)


def test_predicted_times_are_those_of_the_removed_network() -> None:
    for name in NETWORKS:
        module, inputs = build(name, dtype=torch.float32)
        model = trace(module, inputs)
        groups = find_channel_groups(model)
        search = Search(find_layers(model, groups), load_target("npu-8x8"), unit_scores(model, groups, "magnitude"))
        kept = choose(search, parse_budget(0.5, None)).kept
        smaller = RemoveChannels(groups, search.kept_units(kept)).run(model).model
        left = find_channel_groups(smaller)
        layers = find_layers(smaller, left)
        sizes = layers.sizes(np.array([len(group) for group in left.groups]))
        actual = price(search.target, layers.workload(search.target, sizes))
        by_name = dict(zip((row.name for row in layers.rows), actual.total, strict=True))
        predicted = search.latency(kept)
        assert by_name == dict(zip((row.name for row in search.layers.rows), predicted.total, strict=True))


def test_nothing_to_remove() -> None:
    search = _search("nothing_to_remove")
    assert choose(search, parse_budget(0.5, None)).note == "no channel can be removed"
    with pytest.raises(UserError, match=r"^--latency 0\.5x: removing channels makes the model at best 1\.0000x"):
        choose(search, parse_budget(None, "0.5x"))


@pytest.mark.parametrize(
    ("sparsity", "latency", "message"),
    [
        (-0.1, None, "--sparsity -0.1: not a share of channels. Give a number from 0 to less than 1."),
        (float("nan"), None, "--sparsity nan: not a share of channels. Give a number from 0 to less than 1."),
        (None, "0x", "--latency 0x: not a latency. Give a share such as 0.6x or a time such as 1.5ms."),
        (None, "3", "--latency 3: not a latency. Give a share such as 0.6x or a time such as 1.5ms."),
    ],
)
def test_malformed_budgets(sparsity: float | None, latency: str | None, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_budget(sparsity, latency)
    assert str(caught.value) == message
