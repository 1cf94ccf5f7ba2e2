"""Budgets of blocks: met by the compiled model, near to what was asked, or refused with what is possible."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

import smartc
from smartc.compile import start
from smartc.core.errors import UserError
from smartc.decision.decision import Decision
from smartc.decision.job import CompileJob
from smartc.frontend.capture import trace
from smartc.ir.traced_model import TracedModel
from smartc.learning.budgets.result_price import ResultPrice
from smartc.learning.decided import mask_once
from smartc.masks.units import find_units
from smartc.request import Request
from smartc.results.report import Report

TARGETS = ("npu-8x8", "npu-8x8-dense", "npu-16x16")


class Bottleneck(nn.Module):
    """An inverted bottleneck, whose depthwise layer has no tiles: only channels that go make it cheaper."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(width, inner, 1)
        self.each = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.narrow = nn.Conv2d(inner, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.narrow(torch.relu(self.each(torch.relu(self.wide(x)))))


@cache
def network() -> TracedModel:
    """Return a few bottlenecks."""
    torch.manual_seed(0)
    blocks = (Bottleneck(32, 192), Bottleneck(32, 128), nn.Conv2d(32, 64, 3, stride=2), Bottleneck(64, 256))
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 40))
    return trace(nn.Sequential(nn.Conv2d(3, 32, 3), *blocks, *head).eval(), torch.randn(2, 3, 20, 20))


def job_of(target: str, granularity: str = "block", latency: str = "0.5x") -> CompileJob:
    """Return a job for the network."""
    return start(network(), None, Request(target, (None, latency, None, None), granularity, None, with_data=False))


def report_of(target: str, granularity: str, **budget: str) -> Report:
    """Return the report of a compiled network."""
    options = {"target": target, "granularity": granularity, "backends": (), **budget}
    return smartc.compile(network(), **options).report  # type: ignore[arg-type]


@pytest.mark.parametrize("granularity", ["block", "8x8", "4x8", "16x8/shared", "5x12"])
@pytest.mark.parametrize("target", TARGETS)
def test_what_is_left_costs_no_more_than_its_bound(target: str, granularity: str) -> None:
    job = job_of(target, granularity)
    units = find_units(job.original, job.layers, job.granularity)
    price = ResultPrice(job, units)
    random = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.3, 0.9, 1.0):
        kept = random.random(units.count) < share
        bound, exact = price.bound(kept), price.exact(kept)
        assert exact <= bound * (1 + 1e-9)
        if granularity == "block" and share:
            assert exact == pytest.approx(bound, rel=1e-9)


def decided(target: str, latency: str) -> tuple[CompileJob, Decision]:
    """Return what is decided for a budget of time."""
    job = job_of(target, latency=latency)
    return job, mask_once(job)


@pytest.mark.parametrize("target", ["npu-8x8", "npu-8x8-dense"])
def test_a_tighter_budget_is_met_from_nearby_and_never_slower(target: str) -> None:
    left, costs = [], []
    for latency in ("0.9x", "0.7x", "0.5x", "0.45x", "0.4x"):
        job, decision = decided(target, latency)
        assert decision.units is not None
        assert decision.kept is not None
        cost = ResultPrice(job, decision.units).exact(decision.kept)
        assert cost <= job.budget.limit * (1 + 1e-9)
        costs.append(cost)
        left.append(1 - cost / job.budget.limit)
    assert costs == sorted(costs, reverse=True)
    assert np.mean(left) < 0.03


def test_the_report_says_one_figure() -> None:
    for kind, figure in (("latency", "latency"), ("macs", "macs"), ("bytes", "weight_bytes")):
        report = report_of("npu-8x8", "block", **{kind: "0.5x"})
        parts = report.latency if kind == "latency" else getattr(report.summary, figure)
        assert report.budget.reached == f"{parts.compiled / parts.dense:.4f}x"
        assert 0.49 < parts.compiled / parts.dense <= 0.5


def test_macs_that_the_target_does_not_save_are_not_said_to_be_saved() -> None:
    for granularity in ("4x4", "8x8"):
        report = report_of("npu-32x32", granularity, macs="0.8x")
        macs = report.summary.macs
        assert report.budget.reached == f"{macs.compiled / macs.dense:.4f}x"
        assert macs.compiled <= 0.8 * macs.dense


@pytest.mark.parametrize("target", TARGETS)
def test_the_best_that_an_error_names_is_possible(target: str) -> None:
    with pytest.raises(UserError) as raised:
        report_of(target, "block", latency="0.01x")
    text = str(raised.value)
    assert "removing blocks of" in text
    dense = "it computes zero tiles as it does others, so that only channels that nothing reads save something"
    assert (dense in text) == target.endswith("dense")
    best = text.partition("at best ")[2].partition("x ")[0]
    assert report_of(target, "block", latency=f"{best}x").budget.reached <= f"{float(best):.4f}x"


def test_soft_masks_of_a_search_aim_at_what_the_compiled_model_may_keep() -> None:
    torch.manual_seed(0)
    options = {"target": "npu-8x8", "granularity": "block", "latency": "0.5x", "backends": ()}
    data = torch.randn(32, 3, 20, 20)
    compiled = smartc.compile(network(), data=data, settings=smartc.Settings(steps=6), **options)  # type: ignore[arg-type]
    latency = compiled.report.latency
    assert 0.49 < latency.compiled / latency.dense <= 0.5


def test_a_budget_of_everything_keeps_everything() -> None:
    job = job_of("npu-8x8")
    decision = mask_once(replace(job, budget=replace(job.budget, limit=job.budget.dense)))
    assert decision.kept is not None
    assert decision.kept.all()
