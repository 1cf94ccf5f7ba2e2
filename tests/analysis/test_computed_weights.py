"""Weights that the graph computes: where they stay computed, their channels stay with the reason, and never wrongly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import smartc
from smartc.analysis.find_channel_groups import find_channel_groups
from tests.support.constant_networks import FORMULAS, computed
from tests.support.cut_model import cut_module
from tests.support.oracle import assert_equals_masked

REASON = "divides its weight by a length that other channels have a part in"


def _network(kind: type[nn.Module]) -> tuple[nn.Sequential, Tensor]:
    """Return a network of three layers, and inputs of it."""
    torch.manual_seed(0)
    linear = kind is nn.Linear
    first, last = (nn.Linear(12, 32), nn.Linear(32, 8)) if linear else (nn.Conv2d(3, 32, 3), nn.Conv2d(32, 8, 3))
    middle = kind(32, 32) if linear else kind(32, 32, 3)
    network = nn.Sequential(first, nn.ReLU(), middle, nn.ReLU(), last).eval()
    return network, torch.randn(2, 12) if linear else torch.randn(2, 3, 12, 12)


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d, nn.Linear])
@pytest.mark.parametrize("dim", [None, 0, 1])
def test_lengths_that_others_have_a_part_in_stay(kind: type[nn.Module], dim: int | None) -> None:
    network, inputs = _network(kind)
    weight_norm(network[2], dim=dim)
    traced = smartc.trace(network, inputs)
    outputs = 1 if kind is nn.ConvTranspose2d else 0
    assert (REASON in find_channel_groups(traced).frozen.get(("0.weight", 0), "")) is (dim != outputs)
    compiled = smartc.compile(traced, target="npu-8x8", backends=())
    assert all(proof.passed for proof in compiled.report.verify)
    assert bool(compiled.plan.constants) is (dim != outputs)
    assert compiled.report.layers[0].reason == "keeps 16 of 32 output channels"


@pytest.mark.parametrize("name", FORMULAS)
def test_a_formula_is_never_wrong(name: str) -> None:
    network, inputs = _network(nn.Conv2d)
    computed(network[2], FORMULAS[name])
    network, inputs = network.double(), inputs.double()
    done = cut_module(network, inputs)
    assert "meets" in done.groups.frozen["0.weight", 0]
    assert_equals_masked(network, (inputs,), done)
    compiled = smartc.compile(network, inputs, target="npu-8x8", backends=())
    assert all(proof.passed for proof in compiled.report.verify)
    assert compiled.report.layers[0].reason == "keeps 16 of 32 output channels"
