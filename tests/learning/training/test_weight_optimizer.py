"""The optimizer of the weights: steps relative to a tensor's size, a rate that rises and falls."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from smartc.learning.learners.schedule import Schedule
from smartc.learning.training.weight_optimizer import SMALLEST, set_rate, weight_optimizer

RATE = Schedule.weight_rate


def sizes(module: nn.Module) -> dict[str, float]:
    """Return the root mean square of each parameter."""
    return {name: float(value.detach().square().mean().sqrt()) for name, value in module.named_parameters()}


def test_each_tensor_has_a_rate_relative_to_its_size() -> None:
    layer = nn.Linear(8, 8)
    with torch.no_grad():
        layer.weight.mul_(100)
        layer.bias.zero_()
    optimizer = weight_optimizer(layer, set(), RATE)
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates == pytest.approx([RATE * sizes(layer)["weight"], RATE * SMALLEST])
    before = {name: value.detach().clone() for name, value in layer.named_parameters()}
    layer(torch.randn(4, 8)).square().sum().backward()
    optimizer.step()
    for (name, value), rate in zip(layer.named_parameters(), rates, strict=True):
        # Adam's first step has the rate's length, but where a gradient is next to nothing.
        moved = (value.detach() - before[name]).abs()
        assert moved.max() <= rate * (1 + 1e-3)
        assert moved.median() == pytest.approx(rate, rel=1e-2)


def test_leaves_out_what_it_is_told_to_and_what_does_not_learn() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[1].bias.requires_grad_(False)
    optimizer = weight_optimizer(module, {"0.weight"}, RATE)
    found = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert [id(parameter) for parameter in found] == [id(module[0].bias), id(module[1].weight)]


def test_a_model_may_have_nothing_to_learn() -> None:
    module = nn.ReLU()
    optimizer = weight_optimizer(module, set(), RATE)
    set_rate(optimizer, 0, 10)
    optimizer.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.0]


def test_an_empty_tensor_has_a_rate() -> None:
    module = nn.ParameterDict({"none": nn.Parameter(torch.zeros(0, 3))})
    (group,) = weight_optimizer(module, set(), RATE).param_groups
    assert group["lr"] == pytest.approx(RATE * SMALLEST)


@pytest.mark.parametrize("steps", [1, 2, 7, 100, 1000])
def test_the_rate_rises_at_first_and_then_falls(steps: int) -> None:
    layer = nn.Linear(3, 3)
    optimizer = weight_optimizer(layer, set(), RATE)
    full = [group["relative"] for group in optimizer.param_groups]
    shares = []
    for step in range(steps):
        set_rate(optimizer, step, steps)
        share = {round(group["lr"] / whole, 12) for group, whole in zip(optimizer.param_groups, full, strict=True)}
        (one,) = share
        shares.append(one)
    top = shares.index(max(shares))
    assert top <= 0.06 * steps
    assert all(low < high for low, high in itertools.pairwise(shares[: top + 1]))
    assert all(low > high for low, high in itertools.pairwise(shares[top:]))
    assert min(shares) > 0
    assert 0.9 < max(shares) <= 1


def test_after_the_last_step_nothing_moves() -> None:
    optimizer = weight_optimizer(nn.Linear(3, 3), set(), RATE)
    for step in (10, 11, 1000):
        set_rate(optimizer, step, 10)
        assert max(group["lr"] for group in optimizer.param_groups) == pytest.approx(0, abs=1e-15)
