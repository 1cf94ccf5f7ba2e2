"""Units of a model: which weights they are in, how large they are, and what is left alone."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from smartc.analysis.analyse import analysed
from smartc.frontend.capture import trace
from smartc.ir.traced_model import Remark, TracedModel
from smartc.learning.learners.squares import layer_ranks, measured_weights, unit_squares
from smartc.masks.granularity import BlockGranularity, parse_granularity
from smartc.masks.layouts import support
from smartc.masks.units import Units, find_units
from smartc.targets.target import load_target

NPU = load_target("npu-8x8")
KINDS = ("channel", "4x4", "4x8/shared", "2:4")
# float64 sums in another order.
TOLERANCE = 1e-12


class EveryUse(nn.Module):
    """Read weights in each way that there is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 3, padding=1)
        self.grouped = nn.Conv2d(32, 32, 3, padding=1, groups=2)
        self.deep = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.up, self.upper = nn.ConvTranspose2d(32, 32, 2, 2, groups=2), nn.ConvTranspose2d(32, 30, 2, 2)
        self.linear = nn.Linear(30, 64)
        self.matrix, self.tied = nn.Parameter(torch.randn(64, 32)), nn.Parameter(torch.randn(32, 32))
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 5)."""
        x = self.upper(self.up(self.deep(self.grouped(self.conv(x))))).mean(dim=(2, 3))
        x = self.linear(x).relu() @ self.matrix
        return self.head(nn.functional.linear(x @ self.tied, self.tied))


@cache
def model() -> TracedModel:
    """Return the network in float64."""
    torch.manual_seed(0)
    return trace(EveryUse().double().eval(), torch.randn(2, 3, 4, 4, dtype=torch.float64))


@cache
def units_of(kind: str) -> Units:
    """Return the units of a granularity."""
    return find_units(model(), analysed(model()), parse_granularity(kind, NPU))


def test_blocks_are_those_of_layers_that_have_enough() -> None:
    units = units_of("8x8")
    assert units.names == ("conv", "grouped", "upper", "linear", "matmul")
    assert [weight.name for weight in units.weights] == [
        "conv.weight",
        "grouped.weight",
        "upper.weight",
        "linear.weight",
        "matrix",
    ]
    assert units.per_layer.tolist() == [36, 72, 64, 32, 32]
    assert units.skipped == (
        Remark("up", "is a transposed convolution with groups"),
        Remark("matmul_1", "its weight is also read by `linear`"),
        Remark("head", "its 4 blocks of 8x8 are too few: to cut them saves little and can cost a class"),
    )


def test_patterns_need_as_many_inputs() -> None:
    units = units_of("2:4")
    assert units.names == ("grouped", "upper", "linear", "matmul", "head")
    assert Remark("conv", "has fewer than 4 input channels") in units.skipped
    assert units.per_layer.tolist() == [32 * 16 * 9, 32 * 30 * 4, 64 * 28, 64 * 32, 5 * 32]


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_agree_with_each_other(kind: str) -> None:
    units = units_of(kind)
    assert units.count == len(units.layer_of) == len(units.sizes) == units.per_layer.sum()
    assert (units.per_layer > 0).all()
    assert (units.sizes > 0).all()
    keep = np.random.default_rng(0).random(units.count) < 0.3
    density = units.density(torch.from_numpy(keep))
    assert density @ units.per_layer == pytest.approx(keep.sum())
    assert units.density(torch.ones(units.count)) == pytest.approx(1)
    if kind != "channel":
        firsts = np.cumsum(units.per_layer) - units.per_layer
        assert [weight.first for weight in units.weights] == firsts.tolist()
        whole = sum(weight.layout.sums(torch.ones(weight.layout.shape)).sum() for weight in units.weights)
        assert units.sizes.sum() == int(whole)


@pytest.mark.parametrize("kind", KINDS)
def test_energy_is_the_mean_square_of_a_unit(kind: str) -> None:
    units = units_of(kind)
    energy = units.energy(model())
    for unit in np.random.default_rng(1).choice(units.count, 8, replace=False):
        squares = []
        for weight in units.owners:
            mine = np.zeros(weight.layout.count, dtype=bool)
            if weight.part.start <= unit < weight.part.stop:
                mine[unit - weight.first] = True
                # What always stays is in the support of every mask; it is in that of none of the units.
                always = support(weight.layout, np.zeros_like(mine))
                squares.append(model().tensor(weight.name).detach().square()[support(weight.layout, mine) & ~always])
        assert energy[unit] == pytest.approx(float(torch.cat(squares).mean()), rel=TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_squares_are_the_energy_and_have_its_gradient(kind: str) -> None:
    units = units_of(kind)
    names = measured_weights(units)
    assert len(set(names)) == len(names)
    weights = tuple(model().tensor(name).detach().clone().requires_grad_() for name in names)
    squares = unit_squares(units, names, weights)
    assert squares.detach().numpy() == pytest.approx(units.energy(model()), rel=TOLERANCE)
    (squares * torch.from_numpy(units.sizes)).sum().backward()
    for weight in weights:
        assert weight.grad is not None
        times = weight.grad / (2 * weight.detach())
        assert torch.allclose(times, times.round(), atol=1e-9)
        assert times.max() >= 1 - 1e-9


def test_energy_of_what_inputs_bring_weighs_them() -> None:
    units = units_of("4x4")
    random = torch.Generator().manual_seed(2)
    seen = {"linear.weight": torch.rand(30, generator=random), "grouped.weight": torch.rand(32, generator=random)}
    found, plain = units.energy(model(), seen), units.energy(model())
    scaled = dict(seen)
    factors = scaled["grouped.weight"].double().sqrt()
    weight = model().tensor("grouped.weight").detach().clone()
    weight[:16] *= factors[:16].reshape(1, -1, 1, 1)
    weight[16:] *= factors[16:].reshape(1, -1, 1, 1)
    linear = model().tensor("linear.weight").detach() * seen["linear.weight"].double().sqrt()
    expected = units.energy(model().with_tensors({"grouped.weight": weight, "linear.weight": linear}))
    assert found == pytest.approx(expected, rel=1e-9)
    others = ~np.isin(units.layer_of, [units.names.index("linear"), units.names.index("grouped")])
    assert np.array_equal(found[others], plain[others])


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_zeros_have_no_energy_and_no_fault(kind: str) -> None:
    units = units_of(kind)
    names = measured_weights(units)
    zeros = {name: torch.zeros_like(model().tensor(name)) for name in names}
    dead = model().with_tensors(zeros)
    assert not units.energy(dead).any()
    weights = tuple(zeros[name].requires_grad_() for name in names)
    unit_squares(units, names, weights).sum().backward()
    assert all(weight.grad is not None and not weight.grad.any() for weight in weights)
    assert np.isfinite(layer_ranks(units, units.energy(dead))).all()


def test_a_weight_read_by_two_axes_stays_where_both_keep() -> None:
    units = units_of("channel")
    twice = [weight for weight in units.weights if weight.name == "tied"]
    assert len(twice) == 2
    keep = np.random.default_rng(3).random(units.count) < 0.5
    both = support(twice[0].layout, keep) & support(twice[1].layout, keep)
    assert torch.equal(units.supports(keep)["tied"], both)
    assert both.any()
    assert not both.all()


def test_ranks_are_shares_of_the_layer_that_are_no_larger() -> None:
    units = units_of("8x8")
    energy = np.random.default_rng(4).permutation(units.count).astype(float)
    ranks = layer_ranks(units, energy)
    for unit in range(0, units.count, 7):
        own = energy[units.layer_of == units.layer_of[unit]]
        assert ranks[unit] == pytest.approx((own <= energy[unit]).mean())
    tied = layer_ranks(units, np.zeros(units.count))
    for layer, count in enumerate(units.per_layer):
        assert np.sort(tied[units.layer_of == layer]) == pytest.approx(np.arange(1, count + 1) / count)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_may_have_no_units(kind: str) -> None:
    bare = trace(nn.Sequential(nn.ReLU()), torch.randn(2, 3))
    units = find_units(bare, analysed(bare), parse_granularity(kind, NPU))
    assert (units.count, units.weights, units.names) == (0, (), ())
    assert units.energy(bare).shape == units.sizes.shape == layer_ranks(units, np.zeros(0)).shape == (0,)
    assert units.supports(np.zeros(0, dtype=bool)) == {}
    assert unit_squares(units, (), ()).shape == (0,)


def test_skips_the_same_weight_under_one_name_once() -> None:
    layer = nn.Linear(48, 48)
    twice = trace(nn.Sequential(layer, nn.ReLU(), layer), torch.randn(2, 48))
    units = find_units(twice, analysed(twice), BlockGranularity(8, 8))
    assert [weight.layout.count for weight in units.weights] == [36]
    assert not units.skipped
