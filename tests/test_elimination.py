"""Channels go in the order in which the others can stand in for them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from smartc.capture import trace
from smartc.learning.elimination import FINEST, RIDGE, elimination_order
from smartc.learning.granularity import Granularity
from smartc.learning.units import FloatArray, Units, find_units
from smartc.model import TracedModel
from smartc.project import analysed
from tests.test_units import model as every_use

SAMPLES = 500


class Residual(nn.Module):
    """Two layers read the channels of a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.last = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 12, 3, padding=1), nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 5, H - 2, W - 2)."""
        x = self.first(x)
        found: Tensor = self.last(x + self.inner(x).relu())
        return found


def two_layers(hidden: int) -> TracedModel:
    """Return two linear layers with a rectifier between them, in float64."""
    torch.manual_seed(3)
    layers = nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 3)).double().eval()
    return trace(layers, torch.zeros(2, 4, dtype=torch.float64))


def channels_of(model: TracedModel) -> Units:
    """Return the channels of a model."""
    return find_units(model, analysed(model), Granularity("channel"))


def inputs(*shape: int) -> Tensor:
    """Return random samples."""
    return torch.randn(SAMPLES, *shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def order_of(model: TracedModel, samples: Tensor) -> FloatArray:
    """Return the order for samples in batches of 100."""
    return elimination_order(model, channels_of(model), [(part,) for part in samples.split(100)])


def test_the_next_to_go_is_what_least_squares_makes_up_for_best() -> None:
    model, samples = two_layers(6), inputs(4)
    order = order_of(model, samples)
    hidden = (samples @ model.tensor("0.weight").T + model.tensor("0.bias")).relu().detach()
    covariance = torch.cov(hidden.T, correction=0)
    inverse = torch.linalg.inv(covariance + RIDGE * covariance.diagonal().mean() * torch.eye(6))
    weight = model.tensor("2.weight").detach()

    def loss(gone: list[int]) -> float:
        """Return what is lost by least squares without some channels."""
        own = weight[:, gone]
        return float((own @ torch.linalg.inv(inverse[gone][:, gone]) * own).sum())

    gone: list[int] = []
    for unit in np.argsort(order):
        left = [other for other in range(6) if other not in gone]
        assert unit == min(left, key=lambda other: loss([*gone, other]))
        gone.append(int(unit))


def test_of_two_that_are_the_same_one_can_go() -> None:
    model = two_layers(6)
    with torch.no_grad():
        for name in ("0.weight", "0.bias"):
            model.tensor(name)[4] = model.tensor(name)[1]
        # Each matters more than the others, and both together.
        model.tensor("2.weight")[:, [1, 4]] *= 3
    order = order_of(model, inputs(4))
    # What says next to nothing may go before.
    assert min(order[1], order[4]) <= 1
    assert max(order[1], order[4]) == 5


def test_channels_that_say_nothing_go_first() -> None:
    model = two_layers(6)
    with torch.no_grad():
        model.tensor("0.weight")[2] = 0
        model.tensor("2.weight")[:, 5] = 0
    assert set(np.argsort(order_of(model, inputs(4)))[:2]) == {2, 5}


def test_many_go_several_at_a_time_and_each_once() -> None:
    order = order_of(two_layers(3 * FINEST), inputs(4))
    assert sorted(order) == list(range(3 * FINEST))


def test_all_readers_of_a_sum_are_heard() -> None:
    model = trace(Residual().double().eval(), torch.zeros(2, 3, 8, 8, dtype=torch.float64))
    samples = inputs(3, 8, 8)
    units = channels_of(model)
    read = next(weight.layout for weight in units.weights if weight.name == "last.weight")
    with torch.no_grad():
        for name in ("inner.weight", "last.weight"):
            model.tensor(name)[:, 7] = 0
    unread = next(iter(np.flatnonzero(order_of(model, samples) == 0)))
    assert unread == read.units[7]  # type: ignore[attr-defined]
    with torch.no_grad():
        model.tensor("inner.weight")[:, 7] = 50
    assert order_of(model, samples)[unread] == 11


def test_every_kind_of_reader_is_understood_or_left_out() -> None:
    units = channels_of(every_use())
    order = elimination_order(every_use(), units, [(inputs(3, 4, 4)[:64],)])
    for group, name in enumerate(units.names):
        members = np.flatnonzero(units.layer_of == group)
        known = order[members]
        assert np.isnan(known).all() or sorted(known) == list(range(len(members))), name
    assert np.isfinite(order).mean() > 0.5


@pytest.mark.parametrize("value", [0.0, 1.0, float("nan")])
def test_samples_that_are_all_alike_tell_nothing(value: float) -> None:
    assert np.isnan(order_of(two_layers(6), torch.full((SAMPLES, 4), value, dtype=torch.float64))).all()
