"""Mask layouts: what they compute, against an explicit map from each weight to its unit."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from smartc.analysis.channels.channel_groups import FROZEN
from smartc.masks.layouts import Channels, MaskLayout, Pattern, Tiles, sizes, support

SEEDS = range(12)
# float64 sums in another order.
TOLERANCE = 1e-12
# What belongs to no unit and always stays.
NO_UNIT = -1


def random_tiles(draw: random.Random) -> Tiles:
    """Return tiles of a small weight, the last ones of a group often smaller."""
    kernel = draw.choice([(), (3,), (2, 3), (1, 1)])
    groups, flipped = draw.choice([(1, False), (1, True), (2, False), (3, False)])
    out, into = groups * draw.randint(1, 7), draw.randint(1, 7)
    shape = (into, out, *kernel) if flipped else (out, into, *kernel)
    return Tiles(shape, draw.randint(1, 5), draw.randint(1, 5), draw.random() < 0.5, groups, flipped)


def random_channels(draw: random.Random) -> Channels:
    """Return channels of one axis, some frozen, some of them twice, and of more units than the axis has."""
    shape = tuple(draw.randint(1, 5) for _ in range(draw.randint(1, 4)))
    axis, count = draw.randrange(len(shape)), draw.randint(1, 6)
    units = [draw.choice([FROZEN, *range(count)]) for _ in range(shape[axis])]
    return Channels(shape, axis, np.array(units, dtype=np.int64), count)


def random_pattern(draw: random.Random) -> Pattern:
    """Return groups of neighbours, often with inputs left over."""
    flipped, kernel = draw.random() < 0.5, draw.choice([(), (3,), (2, 2)])
    ends = draw.randint(1, 5), draw.randint(1, 9)
    return Pattern((*(ends[::-1] if flipped else ends), *kernel), draw.choice([2, 4]), flipped)


def random_layout(seed: int) -> MaskLayout:
    """Return a layout of any kind."""
    draw = random.Random(seed)
    return (random_tiles, random_channels, random_pattern)[seed % 3](draw)


def unit_map(layout: MaskLayout) -> np.ndarray:
    """Return the unit of every element of the weight, found one by one from the definition."""
    places = itertools.product(*(range(size) for size in layout.shape))
    return np.array([unit_at(layout, place) for place in places], dtype=np.int64).reshape(layout.shape)


def unit_at(layout: MaskLayout, place: tuple[int, ...]) -> int:
    """Return the unit of one element."""
    if isinstance(layout, Channels):
        unit = int(layout.units[place[layout.axis]])
        return NO_UNIT if unit == FROZEN else unit
    assert isinstance(layout, (Tiles, Pattern))
    out, into = place[1::-1] if layout.flipped else place[:2]
    kernel = layout.shape[2:]
    tap = int(np.ravel_multi_index(place[2:], kernel)) if kernel else 0
    taps = int(np.prod(kernel, dtype=np.int64))
    if isinstance(layout, Pattern):
        covered = layout.shape[0 if layout.flipped else 1] // layout.m * layout.m
        return (out * taps + tap) * covered + into if into < covered else NO_UNIT
    outputs = layout.shape[1 if layout.flipped else 0] // layout.groups
    down, across = -(-outputs // layout.rows), -(-layout.shape[0 if layout.flipped else 1] // layout.columns)
    group, inside = divmod(out, outputs)
    tile = (group * down + inside // layout.rows) * across + into // layout.columns
    return tile * taps + tap if layout.per_tap else tile


def expanded(layout: MaskLayout, mask: Tensor) -> Tensor:
    """Return the mask of every element of the weight."""
    return torch.cat([mask, mask.new_ones(1)])[torch.from_numpy(unit_map(layout))]


def random_operands(layout: MaskLayout, seed: int) -> tuple[Tensor, Tensor]:
    """Return a weight and a mask in float64, both with gradients."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(layout.shape, generator=generator, dtype=torch.float64)
    mask = torch.rand(layout.count, generator=generator, dtype=torch.float64)
    return weight.requires_grad_(), mask.requires_grad_()


@pytest.mark.parametrize("seed", SEEDS)
def test_every_unit_is_where_the_definition_puts_it(seed: int) -> None:
    layout = random_layout(seed)
    units = unit_map(layout)
    assert units.max() < layout.count
    inside = np.bincount(units[units != NO_UNIT], minlength=layout.count)
    assert np.array_equal(sizes(layout), inside)
    if not isinstance(layout, Channels):
        assert (inside > 0).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_apply_is_the_product_with_the_expanded_mask(seed: int) -> None:
    layout = random_layout(seed)
    weight, mask = random_operands(layout, seed)
    masked = layout.apply(weight, mask)
    assert torch.equal(masked, weight * expanded(layout, mask))
    assert masked.dtype == torch.float64
    assert torch.equal(layout.apply(weight, torch.ones(layout.count)), weight)


@pytest.mark.parametrize("seed", SEEDS)
def test_sums_are_those_over_each_unit(seed: int) -> None:
    layout = random_layout(seed)
    values, _ = random_operands(layout, seed)
    units = torch.from_numpy(unit_map(layout)).reshape(-1)
    units = torch.where(units == NO_UNIT, layout.count, units)
    expected = torch.zeros(layout.count + 1, dtype=torch.float64).index_add(0, units, values.detach().reshape(-1))
    assert torch.allclose(layout.sums(values.detach()), expected[:-1], rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("seed", range(9))
def test_gradients_are_those_of_finite_differences(seed: int) -> None:
    layout = random_layout(seed)
    weight, mask = random_operands(layout, seed)
    assert torch.autograd.gradcheck(layout.apply, (weight, mask))
    assert torch.autograd.gradcheck(layout.sums, (weight,))
    assert torch.autograd.gradcheck(layout.apply, (weight, mask.detach()))
    assert torch.autograd.gradcheck(layout.apply, (weight.detach(), mask))


@pytest.mark.parametrize("seed", SEEDS)
def test_support_is_where_a_hard_mask_keeps(seed: int) -> None:
    layout = random_layout(seed)
    keep = np.random.default_rng(seed).random(layout.count) < 0.5
    kept = support(layout, keep)
    assert kept.dtype == torch.bool
    assert torch.equal(kept, expanded(layout, torch.from_numpy(keep)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_masked_weight_keeps_its_type(dtype: torch.dtype) -> None:
    for layout in (Tiles((5, 3, 2), 2, 2), Channels((5, 3), 0, np.arange(5), 5), Pattern((5, 6), 4)):
        weight = torch.randn(layout.shape).to(dtype).requires_grad_()
        mask = torch.rand(layout.count, requires_grad=True)
        masked = layout.apply(weight, mask)
        masked.sum().backward()
        assert masked.dtype == dtype
        assert weight.grad is not None
        assert mask.grad is not None
        assert (weight.grad.dtype, mask.grad.dtype) == (dtype, torch.float32)


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_inputs_of_every_group_have_factors_of_their_own(groups: int) -> None:
    layers = torch.nn.Conv2d(4 * groups, 5 * groups, 3, groups=groups, bias=False).double()
    factors = torch.rand(4 * groups, dtype=torch.float64)
    x = torch.randn(2, 4 * groups, 5, 5, dtype=torch.float64)
    shape = tuple(layers.weight.shape)
    for layout in (Tiles(shape, 2, 3, groups=groups), Pattern(shape, 2)):
        weight = layout.times_inputs(layers.weight, factors)
        given = torch.nn.functional.conv2d(x, weight, groups=groups)
        assert torch.allclose(given, layers(x * factors[:, None, None]), rtol=TOLERANCE, atol=TOLERANCE)


def test_inputs_come_first_where_a_weight_is_flipped() -> None:
    layer = torch.nn.ConvTranspose1d(4, 6, 3, bias=False).double()
    factors, x = torch.rand(4, dtype=torch.float64), torch.randn(2, 4, 5, dtype=torch.float64)
    for layout in (Tiles((4, 6, 3), 2, 3, flipped=True), Pattern((4, 6, 3), 2, flipped=True)):
        weight = layout.times_inputs(layer.weight, factors)
        given = torch.nn.functional.conv_transpose1d(x, weight)
        assert torch.allclose(given, layer(x * factors[:, None]), rtol=TOLERANCE, atol=TOLERANCE)


def test_channels_do_not_count_what_they_read() -> None:
    weight = torch.randn(3, 2)
    assert Channels((3, 2), 0, np.arange(3), 3).times_inputs(weight, torch.rand(2)) is weight


def test_one_tile_may_be_larger_than_the_weight() -> None:
    layout = Tiles((3, 5, 2), 8, 8, per_tap=False)
    assert (layout.count, layout.grid) == (1, (1, 1, 1, 1))
    assert sizes(layout).tolist() == [30]
    assert replace(layout, per_tap=True).count == 2


def test_a_plan_can_tell_where_units_lie() -> None:
    tiles = Tiles((16, 9, 3, 3), 8, 4, False)
    assert tiles.facts() == {
        "shape": [16, 9, 3, 3],
        "tile": {"rows": 8, "columns": 4, "per_tap": False},
        "grid": [1, 2, 3, 1],
        "input_first": False,
    }
    channels = Channels((2, 3), 1, np.array([1, FROZEN, 0]), 2)
    assert channels.facts() == {"shape": [2, 3], "axis": 1, "units": [1, FROZEN, 0]}
    assert Pattern((4, 8), 4, True).facts() == {"shape": [4, 8], "group": 4, "input_first": True}
