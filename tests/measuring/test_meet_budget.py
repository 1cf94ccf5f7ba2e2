"""Budgets of time are met by what was measured, on machines that are not as their cost table has them."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import smartc
from smartc.analysis.find_layers import Layers
from smartc.artifact.compiled import Compiled
from smartc.core.errors import UserError
from smartc.learning.training import checkpoint
from smartc.learning.training.mask_search import SearchState
from smartc.lowering import files
from smartc.lowering.lower import Lowered
from smartc.measuring import bench, measured_prices
from smartc.measuring.measurement import Dense, NetworkTimes
from smartc.measuring.meet_budget import AIM, MOST, NEAR, ROUNDS, Trial, next_limit
from smartc.measuring.timing import Timing
from tests.support.cost_tables import by_work, target

# By row of the network: how many times as long a layer takes as the table says.
Machine = Callable[[str, float], float]
CPU = target(by_work, blocks=False)
X = torch.randn(1, 16, 14, 14, generator=torch.Generator().manual_seed(0))
OPTIONS: dict[str, Any] = {"target": CPU, "backends": ("onnx",), "granularity": "channel"}


def network(width: int = 128) -> nn.Module:
    """Return six convolutions of several sizes and a classifier."""
    torch.manual_seed(0)
    counts = (16, width, width, 2 * width, 2 * width, width, width)
    layers: list[nn.Module] = []
    for cin, cout in itertools.pairwise(counts):
        layers += [nn.Conv2d(cin, cout, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)).eval()


@pytest.fixture
def run_on(monkeypatch: pytest.MonkeyPatch) -> Callable[[Machine], list[int]]:
    """Return what lets networks take the times of a machine; it returns a list that counts what is timed."""

    def start(machine: Machine) -> list[int]:
        timed: list[int] = []

        def times(layers: Layers) -> NetworkTimes:
            table = CPU.price(layers.workload(CPU, layers.full_sizes)).ms
            found = {row.name: machine(row.name, float(ms)) for row, ms in zip(layers.rows, table, strict=True)}
            total = sum(found.values()) + 0.02
            return NetworkTimes(
                {name: Timing(ms, 0.0) for name, ms in found.items()}, Timing(0.02, 0.0), Timing(total, 0.0)
            )

        def measure(
            dense: Dense, lowered: Mapping[str, Lowered], layers: Layers
        ) -> tuple[NetworkTimes, dict[str, NetworkTimes]]:
            timed.append(len(lowered))
            return times(dense.layers), {name: times(layers) for name in lowered}

        def lower(model: Any, *arguments: Any, **options: Any) -> tuple[list[Lowered], list[Any]]:
            part = Lowered("model.onnx", "masked == onnx", Path.touch, model.run, torch.float32, lambda inputs: None)
            return [part], []

        monkeypatch.setattr(bench, "measure", measure)
        monkeypatch.setattr(bench, "dense_timer", lambda model, metadata: None)
        monkeypatch.setattr(files, "lower", lower)
        return timed

    return start


def share(compiled: Compiled) -> float:
    """Return the measured time as a share of that of the dense network."""
    return compiled.report.latency.compiled / compiled.report.latency.dense


def warnings_of(compiled: Compiled) -> list[str]:
    """Return what the report says of the budget."""
    return [remark.text for remark in compiled.report.remarks if remark.where == "budget"]


def wrong_by_layer(name: str, ms: float) -> float:
    """Return the time of a layer on a machine where the table is wrong by a factor for each."""
    return ms * {"0": 0.3, "2": 3.0, "4": 0.5, "6": 6.0, "8": 1.0, "10": 0.2}.get(name, 1.0)


def with_a_part_that_stays(name: str, ms: float) -> float:
    """Return the time of a layer that has a part which does not fall with its channels."""
    return 0.15 + wrong_by_layer(name, ms) if name in ("2", "6") else wrong_by_layer(name, ms)


def worse_when_small(name: str, ms: float) -> float:
    """Return the time of a layer that saves more than the table says."""
    return wrong_by_layer(name, ms) ** 1.4


@pytest.mark.parametrize("machine", [wrong_by_layer, with_a_part_that_stays, worse_when_small])
@pytest.mark.parametrize("asked", [0.7, 0.5])
def test_a_share_is_met_within_three_per_cent(
    run_on: Callable[[Machine], list[int]], machine: Machine, asked: float
) -> None:
    timed = run_on(machine)
    compiled = smartc.compile(network(), X, latency=f"{asked}x", **OPTIONS)
    assert 0.9 * asked <= share(compiled) <= MOST * asked
    assert warnings_of(compiled) == []
    assert timed[0] == 0, "the dense network is measured before anything is decided"
    assert 1 <= sum(timed) <= ROUNDS


def test_factors_alone_are_met_in_one_round(run_on: Callable[[Machine], list[int]]) -> None:
    timed = run_on(wrong_by_layer)
    smartc.compile(network(), X, latency="0.6x", **OPTIONS)
    assert timed == [0, 1]


def test_milliseconds_are_those_that_are_measured(run_on: Callable[[Machine], list[int]]) -> None:
    run_on(lambda name, ms: 2.7 * ms)
    dense = smartc.compile(network(), X, latency="1x", **OPTIONS).report.latency.dense
    met = smartc.compile(network(), X, latency=f"{1.01 * dense:.6f}ms", **OPTIONS)
    assert met.report.summary.removed_channels == 0
    assert warnings_of(met) == []
    asked = 0.8 * dense
    less = smartc.compile(network(), X, latency=f"{asked:.6f}ms", **OPTIONS)
    assert less.report.summary.removed_channels > 0
    assert 0.9 * asked <= less.report.latency.compiled <= MOST * asked
    assert less.report.budget.reached.endswith(
        f" by the table of kernels, {less.report.latency.compiled:.4g}ms measured"
    )


@pytest.mark.slow
def test_what_is_missed_is_told(run_on: Callable[[Machine], list[int]], caplog: pytest.LogCaptureFixture) -> None:
    smallest: dict[str, float] = {}

    def hardly_falls(name: str, ms: float) -> float:
        smallest[name] = max(smallest.get(name, ms), ms)
        return 0.8 * smallest[name] + 0.2 * ms

    run_on(hardly_falls)
    with caplog.at_level(logging.WARNING):
        compiled = smartc.compile(network(), X, latency="0.5x", **OPTIONS)
    latency = compiled.report.latency
    (text,) = warnings_of(compiled)
    assert text == (
        f"is missed: 0.5x was asked, and {latency.compiled:.2f} ms of {latency.dense:.2f} ms, {share(compiled):.4f}x, "
        "is measured; nothing nearer was found"
    )
    assert compiled.report.remarks[0].text == text
    assert f"the budget {text}" in caplog.messages


@pytest.mark.slow
def test_the_best_of_those_that_miss_is_taken(run_on: Callable[[Machine], list[int]]) -> None:
    dense: dict[str, float] = {}

    def hardly_falls(name: str, ms: float) -> float:
        dense[name] = max(dense.get(name, ms), ms)
        return 0.7 * dense[name] + 0.3 * ms

    timed = run_on(hardly_falls)
    compiled = smartc.compile(network(), X, latency="0.6x", **OPTIONS)
    fewest = smartc.compile(network(), X, target=CPU, backends=(), granularity="channel", sparsity=0.9)
    assert sum(timed) > 1
    assert share(compiled) < 0.8
    assert compiled.report.summary.removed_channels >= 0.9 * fewest.report.summary.removed_channels


def test_what_cannot_be_met_by_the_measured_prices_is_refused(run_on: Callable[[Machine], list[int]]) -> None:
    run_on(lambda name, ms: 40 * ms if name == "14" else ms)
    with pytest.raises(UserError, match="removing channels makes the model at best"):
        smartc.compile(network(16), X, latency="0.05x", **OPTIONS)


@pytest.mark.slow
def test_learning_knows_the_measured_prices_and_tells_what_it_misses(run_on: Callable[[Machine], list[int]]) -> None:
    learning: dict[str, Any] = {"data": torch.randn(8, 16, 14, 14), "settings": smartc.Settings(steps=2)}
    timed = run_on(wrong_by_layer)
    compiled = smartc.compile(network(48), X, latency="0.6x", **OPTIONS, **learning)
    assert timed == [0, 1]
    assert 0.54 <= share(compiled) <= 0.6 * MOST
    assert warnings_of(compiled) == []
    run_on(lambda name, ms: ms + 0.2)
    (text,) = warnings_of(smartc.compile(network(48), X, latency="0.6x", **OPTIONS, **learning))
    assert text.startswith("is missed: 0.6x was asked, and ")
    assert text.endswith("; the network was learned for it once, and is not learned again")


@pytest.mark.slow
def test_a_training_goes_on_though_times_are_never_twice_the_same(
    run_on: Callable[[Machine], list[int]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    leaps = itertools.count(1e9, 100.0)
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: next(leaps)))
    steps: list[int] = []

    def compiled(machine: Machine, last: int, **settings: Any) -> None:
        def watch(state: SearchState, count: int, met: float) -> None:
            steps.append(state.step)
            if state.step == last:
                raise KeyboardInterrupt

        run_on(machine)
        found = smartc.Settings(steps=6, checkpoint=tmp_path / "state", **settings)
        data = torch.randn(8, 16, 14, 14, generator=torch.Generator().manual_seed(1))
        smartc.compile(network(48), X, latency="0.6x", data=data, settings=found, watch=watch, **OPTIONS)

    with pytest.raises(KeyboardInterrupt):
        compiled(wrong_by_layer, 3)
    compiled(lambda name, ms: 1.01 * wrong_by_layer(name, ms), -1, resume=True)
    assert steps[0] == 0
    assert steps.count(0) == 1, "it does not begin again"
    assert steps[-1] == 5


def test_processes_that_learn_together_price_alike(
    run_on: Callable[[Machine], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = run_on(wrong_by_layer)
    monkeypatch.setattr(measured_prices, "in_torchrun", lambda: True)
    smartc.compile(network(48), X, latency="0.9x", **OPTIONS)
    assert 0 not in timed


def test_other_budgets_are_decided_by_the_table(run_on: Callable[[Machine], list[int]]) -> None:
    timed = run_on(wrong_by_layer)
    for budget in ({"sparsity": 0.3}, {"macs": "0.6x"}):
        smartc.compile(network(48), X, **budget, **OPTIONS)
    assert timed == [1, 1]


@given(seed=st.integers(0, 2**32 - 1))
def test_limits_lead_to_the_budget(seed: int) -> None:
    """Whatever rises with its limit is met, where it can be, and no limit is tried twice."""
    random = np.random.default_rng(seed)
    least, dense, power = 0.05, 1.0, random.uniform(0.5, 2)
    fixed, asked = random.uniform(0, 0.2), random.uniform(0.4, 0.9)

    def time(limit: float) -> float:
        return float(fixed + (1 - fixed) * limit**power)

    limit: float | None = asked
    trials: list[Trial] = []
    while limit is not None:
        trials.append(Trial(limit, time(limit) / asked))
        limit = next_limit(trials, least, dense)
    assert len(trials) <= ROUNDS
    assert len({trial.limit for trial in trials}) == len(trials)
    assert all(least <= trial.limit <= dense for trial in trials)
    assert NEAR <= trials[-1].share <= MOST


def test_no_limit_is_left_where_the_ends_were_tried() -> None:
    assert next_limit([Trial(1.0, 0.5)], 0.1, 1.0) is None
    assert next_limit([Trial(0.1, 1.5)], 0.1, 1.0) is None
    assert next_limit([Trial(0.4, AIM)], 0.1, 1.0) is None
    assert next_limit([Trial(0.4, 2.0)], 0.1, 1.0) == pytest.approx(0.4 * AIM / 2)
    assert next_limit([Trial(0.4, 20.0)], 0.1, 1.0) == 0.1
