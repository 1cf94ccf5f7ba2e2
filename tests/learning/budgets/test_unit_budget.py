"""Budgets in units: never above the amount, nothing left out that fits, and a soft limit that agrees."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from smartc.analysis.analyse import analysed
from smartc.analysis.prices import price_layers
from smartc.frontend.capture import trace
from smartc.ir.traced_model import TracedModel
from smartc.learning.budgets.live_weights import LiveWeights
from smartc.learning.budgets.unit_budget import CountBudget, PatternBudget, PricedBudget
from smartc.masks.granularity import Granularity, parse_granularity
from smartc.masks.layouts import BoolArray
from smartc.masks.units import FloatArray, find_units
from smartc.targets.latency import Measure
from smartc.targets.target import Target, load_target
from tests.support.random_layers import changed

NPU = load_target("npu-8x8")
SHARED = changed(NPU, sparsity__per_kernel_position=False)
FOLDED = changed(NPU, array__reduction="im2col")
# Sums of floats in another order.
ROUNDING = 1e-9
MEASURES: tuple[Measure, ...] = ("latency", "macs", "bytes")
SEEDS = range(3)


@cache
def network() -> TracedModel:
    """Return layers of many kinds: some bound by memory, one twice, one too small to be masked."""
    torch.manual_seed(0)
    twice = nn.Conv2d(32, 32, 3, padding=1)
    maps = (nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), twice, nn.ReLU(), twice, nn.Conv2d(32, 44, 3, stride=2))
    vectors = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(44, 200), nn.Linear(200, 60), nn.Linear(60, 5))
    return trace(nn.Sequential(*maps, *vectors).eval(), torch.randn(2, 3, 9, 9))


@cache
def live_weights(measure: Measure = "latency") -> LiveWeights:
    """Return what the network's 8 x 8 blocks cost."""
    layers = analysed(network())
    return LiveWeights(find_units(network(), layers, Granularity("block", 8, 8)), layers, NPU, measure)


def random_worth(seed: int, count: int) -> FloatArray:
    """Return worths over many orders of size, with ties and zeros."""
    random = np.random.default_rng(seed)
    importance = np.round(10.0 ** random.uniform(-6, 3, count), 3)
    importance[random.random(count) < 0.1] = 0
    return importance


def spent(weights: LiveWeights, keep: BoolArray) -> float:
    """Return what the network costs with some of its units."""
    units = weights.units
    return weights.other + float(weights.by_layer(np.bincount(units.layer_of, keep, len(units.names))).sum())


def amounts(weights: LiveWeights, count: int) -> FloatArray:
    """Return amounts from the least that the network can cost to the most."""
    return np.linspace(weights.least, weights.total, count)


def random_mask(seed: int, count: int) -> FloatArray:
    """Return a soft mask of which about a third is open."""
    return np.clip(np.random.default_rng(seed).uniform(-1, 2, count), 0, 1)


def test_a_count_is_kept_exactly() -> None:
    for seed in SEEDS:
        importance = random_worth(seed, 50)
        for limit in (0, 1, 17, 50):
            keep = CountBudget(float(limit)).keep(importance)
            assert keep.sum() == limit
            assert importance[keep].sum() == pytest.approx(np.sort(importance)[50 - limit :].sum())


def test_every_group_of_a_pattern_keeps_its_best() -> None:
    for seed, (n, m) in enumerate(((2, 4), (1, 4), (4, 8), (1, 2))):
        rows = random_worth(seed, 24 * m).reshape(-1, m)
        keep = PatternBudget(float(n), m).keep(rows.reshape(-1)).reshape(-1, m)
        assert (keep.sum(1) == n).all()
        best = np.sort(rows, axis=1)[:, m - n :].sum(1)
        assert np.allclose((rows * keep).sum(1), best)


@pytest.mark.parametrize("measure", MEASURES)
def test_is_never_above_the_amount_and_leaves_nothing_out_that_fits(measure: Measure) -> None:
    weights = live_weights(measure)
    units = weights.units
    assert len(units.names) >= 4
    for seed in SEEDS:
        importance = random_worth(seed, units.count)
        for amount in amounts(weights, 5):
            budget = PricedBudget(weights, float(amount))
            budget.reprice(random_mask(seed, units.count))
            keep = budget.keep(importance)
            assert spent(weights, keep) <= amount * (1 + ROUNDING)
            for layer in np.unique(units.layer_of[~keep]):
                more = keep.copy()
                more[np.flatnonzero((units.layer_of == layer) & ~keep)[0]] = True
                assert spent(weights, more) > amount


def test_within_a_layer_the_best_stay() -> None:
    weights = live_weights()
    units = weights.units
    for seed in SEEDS:
        importance = random_worth(seed, units.count)
        keep = PricedBudget(weights, float(amounts(weights, 3)[1])).keep(importance)
        for layer in range(len(units.names)):
            inside = units.layer_of == layer
            assert importance[inside & ~keep].max(initial=0) <= importance[inside & keep].min(initial=np.inf)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_smaller_amount_never_costs_more(measure: Measure) -> None:
    weights = live_weights(measure)
    importance = random_worth(7, weights.units.count)
    costs = [spent(weights, PricedBudget(weights, float(amount)).keep(importance)) for amount in amounts(weights, 12)]
    assert (np.diff(costs) >= 0).all()
    assert costs[-1] == pytest.approx(weights.total)
    assert PricedBudget(weights, weights.total).keep(importance).all()


def test_time_is_what_the_latency_model_says_of_the_zeros() -> None:
    model, weights = network(), live_weights()
    for seed, amount in enumerate(amounts(weights, 4)):
        keep = PricedBudget(weights, float(amount)).keep(random_worth(seed, weights.units.count))
        zeros = {name: model.tensor(name).detach() * kept for name, kept in weights.units.supports(keep).items()}
        cycles = float(price_layers(model.with_tensors(zeros), weights.layers, NPU).total.sum())
        assert cycles == pytest.approx(spent(weights, keep), rel=ROUNDING)
        assert cycles <= amount * (1 + ROUNDING)


@pytest.mark.parametrize("kind", ["4x4", "4x8/shared", "16x8", "5x12", "64x16", "8x8"])
@pytest.mark.parametrize("target", [NPU, SHARED, FOLDED], ids=["own", "shared", "folded"])
def test_blocks_that_are_no_tiles_are_within_the_amount_too(kind: str, target: Target) -> None:
    model, layers = network(), live_weights().layers
    units = find_units(model, layers, parse_granularity(kind, target))
    weights = LiveWeights(units, layers, target)
    for seed, amount in enumerate(amounts(weights, 3)):
        budget = PricedBudget(weights, float(amount))
        keep = budget.keep(random_worth(seed, units.count))
        zeros = {name: model.tensor(name).detach() * kept for name, kept in units.supports(keep).items()}
        cycles = float(price_layers(model.with_tensors(zeros), layers, target).total.sum())
        assert cycles <= spent(weights, keep) * (1 + ROUNDING)
        assert spent(weights, keep) <= amount * (1 + ROUNDING)


@pytest.mark.parametrize("measure", MEASURES)
def test_the_soft_limit_leaves_what_the_mask_has_not_spent(measure: Measure) -> None:
    weights = live_weights(measure)
    for seed in SEEDS:
        mask = random_mask(seed, weights.units.count)
        left = 0.1 * weights.total
        budget = PricedBudget(weights, spent(weights, mask) + left)
        budget.reprice(mask)
        assert budget.cost is not None
        assert (budget.cost > 0).all()
        assert budget.limit - float(budget.cost @ mask) == pytest.approx(left, rel=1e-6)


def test_the_soft_limit_stays_within_what_a_mask_can_be() -> None:
    weights = live_weights()
    for amount in (0.0, weights.least, weights.total, 2 * weights.total):
        for mask in (np.zeros(weights.units.count), np.ones(weights.units.count)):
            budget = PricedBudget(weights, amount)
            budget.reprice(mask)
            assert budget.cost is not None
            assert np.isfinite(budget.cost).all()
            assert 0 < budget.limit <= float(budget.cost.sum()) * (1 + ROUNDING)


def test_nothing_stays_but_what_is_free_where_nothing_may() -> None:
    weights = live_weights()
    keep = PricedBudget(weights, weights.least).keep(np.zeros(weights.units.count))
    assert spent(weights, keep) == pytest.approx(weights.least)
    assert not PricedBudget(weights, 0.5 * weights.least).keep(np.ones(weights.units.count)).any()


def test_costs_are_those_of_single_layers() -> None:
    weights = live_weights()
    per_layer = weights.units.per_layer.astype(np.float64)
    assert weights.by_layer(per_layer).sum() + weights.other == pytest.approx(weights.total)
    for layer in range(len(per_layer)):
        fewer = per_layer.copy()
        fewer[layer] *= 0.5
        changed = weights.by_layer(fewer) != weights.by_layer(per_layer)
        assert not changed[np.arange(len(per_layer)) != layer].any()
        assert changed[layer]
    macs = live_weights("macs")
    assert macs.by_layer(per_layer / 2) == pytest.approx(macs.by_layer(per_layer) / 2)


def test_nothing_to_mask_costs_what_the_network_does() -> None:
    model = trace(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.randn(2, 4))
    layers = analysed(model)
    weights = LiveWeights(find_units(model, layers, Granularity("block", 8, 8)), layers, NPU)
    assert weights.total == weights.least == weights.other > 0
    budget = PricedBudget(weights, weights.total)
    assert budget.cost is not None
    assert budget.cost.shape == budget.keep(np.zeros(0)).shape == (0,)
