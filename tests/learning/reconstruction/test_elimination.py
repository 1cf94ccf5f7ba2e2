"""Channels go in the order in which the others can stand in for them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from smartc.analysis.analyse import analysed
from smartc.frontend.capture import trace
from smartc.ir.traced_model import TracedModel
from smartc.learning.reconstruction import elimination
from smartc.learning.reconstruction.elimination import FINEST, RIDGE, elimination_order
from smartc.masks.granularity import ChannelGranularity
from smartc.masks.units import FloatArray, Units, find_units
from tests.masks.test_units import model as every_use

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


def two_layers(hidden: int, seed: int = 3) -> TracedModel:
    """Return two linear layers with a rectifier between them, in float64."""
    torch.manual_seed(seed)
    layers = nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 3)).double().eval()
    return trace(layers, torch.zeros(2, 4, dtype=torch.float64))


def channels_of(model: TracedModel) -> Units:
    """Return the channels of a model."""
    return find_units(model, analysed(model), ChannelGranularity())


def inputs(*shape: int) -> Tensor:
    """Return random samples."""
    return torch.randn(SAMPLES, *shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def order_of(model: TracedModel, samples: Tensor) -> FloatArray:
    """Return the order for samples in batches of 100."""
    return elimination_order(model, channels_of(model), [(part,) for part in samples.split(100)])


class Flattened(nn.Module):
    """A linear layer reads each channel at every position of a smooth image."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(2, 6, 1), nn.Linear(6 * 9, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 2, 3, 3) to (N, 5)."""
        found: Tensor = self.last(self.first(x).relu().flatten(1))
        return found


class Grouped(nn.Module):
    """A grouped layer reads 4 channels twice over, and another reads all, on a much larger scale."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 8, 1)
        self.grouped, self.other = nn.Conv2d(8, 6, 3, padding=1, groups=2), nn.Conv2d(8, 3, (1, 2))
        with torch.no_grad():
            self.other.weight *= 1000
            self.grouped.weight[:, 2] *= 4

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, 2, H, W) to (N, 6, H, W) and (N, 3, H, W - 1)."""
        x = self.first(x).relu()
        return self.grouped(x), self.other(x)


# Of a layer, or a group of one: inputs, shape (positions, channels), the unit of each channel, and its weights,
# shape (rows, channels).
Part = tuple[Tensor, list[int], Tensor]


def lost(layer: list[Part], gone: list[int]) -> float:
    """Return the share of the variance of a layer's outputs that least squares cannot make up for without units."""
    left = whole = 0.0
    for inputs, units, weights in layer:
        covariance = torch.cov(inputs.T, correction=0)
        inverse = torch.linalg.inv(covariance + RIDGE * covariance.diagonal().mean() * torch.eye(len(units)))
        out = [place for place, unit in enumerate(units) if unit in gone]
        own = weights[:, out]
        left += float((own @ torch.linalg.inv(inverse[out][:, out]) * own).sum())
        whole += float((weights @ covariance * weights).sum())
    return left / whole


def readers(model: TracedModel, samples: Tensor) -> list[list[Part]]:
    """Return the layers that read the channels of the first, computed without the compiler."""
    weight = {name: tensor.detach() for name, tensor in model.graph_module.named_parameters()}
    if "0.weight" in weight:
        hidden = (samples @ weight["0.weight"].T + weight["0.bias"]).relu()
        return [[(hidden, list(range(6)), weight["2.weight"])]]
    hidden = nn.functional.conv2d(samples, weight["first.weight"], weight["first.bias"]).relu()
    if "last.weight" in weight:
        return [[(hidden.flatten(1), [unit for unit in range(6) for _ in range(9)], weight["last.weight"])]]
    flat, units = hidden.transpose(0, 1).flatten(1).T, list(range(4))
    halves = (own.movedim(1, -1).reshape(-1, 4) for own in weight["grouped.weight"].chunk(2))
    grouped = [(part, units, half) for part, half in zip(flat.split(4, 1), halves, strict=True)]
    return [grouped, [(flat, units * 2, weight["other.weight"].movedim(1, -1).reshape(-1, 8))]]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("network", [None, Flattened, Grouped])
def test_the_next_to_go_is_what_least_squares_makes_up_for_best(network: type[nn.Module] | None, seed: int) -> None:
    model, samples = two_layers(6, seed), inputs(4)
    if network is not None:
        # Neighbours in an image are alike.
        samples = inputs(2, 1, 1) + 0.3 * inputs(2, 3, 3)
        torch.manual_seed(seed)
        model = trace(network().double().eval(), samples[:2])
    known, units = readers(model, samples), channels_of(model)
    order = order_of(model, samples)
    gone: list[int] = []
    for unit in np.argsort(order):
        left = [other for other in range(units.count) if other not in gone]
        assert unit == min(left, key=lambda other: sum(lost(layer, [*gone, other]) for layer in known))
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


def test_how_inputs_are_cut_into_batches_decides_nothing() -> None:
    torch.manual_seed(3)
    model = trace(
        nn.Sequential(nn.Conv2d(2, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1)).double().eval(),
        torch.zeros(2, 2, 32, 32).double(),
    )
    # Blank but for the right half; each channel of the image in columns of its own.
    samples = torch.zeros(512, 2, 32, 32, dtype=torch.float64)
    samples[..., 16:24] = inputs(2, 32, 8).repeat(2, 1, 1, 1)[:512]
    orders = [
        elimination_order(model, channels_of(model), [(part,) for part in samples.split(size)]) for size in (128, 100)
    ]
    assert np.isfinite(orders).all()
    assert np.abs(orders[0] - orders[1]).max() <= 1


def test_what_would_take_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elimination, "MOST_CHANNELS", 5)
    assert np.isnan(order_of(two_layers(6), inputs(4))).all()
    assert np.isfinite(order_of(two_layers(5), inputs(4))).all()


@pytest.mark.parametrize("value", [0.0, 0.7, 1.0, float("nan")])
def test_samples_that_are_all_alike_tell_nothing(value: float) -> None:
    assert np.isnan(order_of(two_layers(6), torch.full((SAMPLES, 4), value, dtype=torch.float64))).all()
