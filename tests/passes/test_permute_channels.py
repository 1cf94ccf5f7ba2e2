"""Permuted channels: the same outputs in float64 for any order of the free groups, and fewer live tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from smartc.analysis.channels.channel_groups import ChannelGroups
from smartc.analysis.find_channel_groups import find_channel_groups
from smartc.analysis.live_tiles import live_tiles
from smartc.analysis.weight_use import weight_use
from smartc.frontend.capture import trace
from smartc.ir.traced_model import TracedModel
from smartc.packing.find_channel_order import find_channel_order
from smartc.packing.find_free_groups import find_free_groups
from smartc.passes.permute_channels import PermuteChannels, axis_orders, moved_places, whole_order
from smartc.targets.target import Target, load_target
from tests.support.oracle import TOLERANCE, relative_error
from tests.support.zero_tiles import with_zero_tiles
from tests.support.zoo import build

NPU = load_target("npu-8x8")
NETWORKS = (
    "plain_chain residual_bottlenecks grouped_resnext grouped_transposed depthwise_multiplier shufflenet_unit_view"
    " dense_concat vision_transformer c2f_chunk split_attention lstm"
).split()


def shuffled(model: TracedModel, groups: ChannelGroups, chosen: tuple[int, ...], seed: int = 0) -> TracedModel:
    """Return the model with some groups in random orders."""
    random = np.random.default_rng(seed)
    orders = {index: random.permutation(len(groups.groups[index])) for index in chosen}
    return PermuteChannels(groups, whole_order(groups, orders)).run(model).model


def error(model: TracedModel, other: TracedModel) -> float:
    """Return the relative error of two models in float64 on random inputs, or integers as they are."""
    generator = torch.Generator().manual_seed(1)
    random = [torch.randn(v.shape, generator=generator, dtype=torch.float64) for v in model.examples]
    values = tuple(
        number if value.is_floating_point() else value for number, value in zip(random, model.examples, strict=True)
    )
    return relative_error(model.run(values), other.run(values))


def all_live_tiles(model: TracedModel, target: Target) -> int:
    """Return the live tiles of all weights."""
    uses = {use for use in (weight_use(model, node) for node in model.calls()) if use is not None}
    return sum(live_tiles(model.tensor(use.name), target, groups=use.groups, transposed=use.transposed) for use in uses)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_any_order_of_free_groups_is_exact(name: str) -> None:
    model = trace(*build(name))
    groups = find_channel_groups(model)
    free = find_free_groups(model, groups)
    permuted = shuffled(model, groups, free.free)
    assert free.free
    assert not free.reasons
    assert error(model, permuted) <= TOLERANCE
    before = tree_leaves([tensor.detach() for tensor in model.graph_module.parameters()])
    after = list(permuted.graph_module.parameters())
    assert any(not torch.equal(one, other) for one, other in zip(before, after, strict=True))


class RolledPixels(nn.Module):
    """Rolls flattened channels, so that the pixels of each come in an order of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.next = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.roll(self.next(torch.relu(self.conv(x))).flatten(1), 3, 1))


def test_a_group_whose_order_matters_keeps_it() -> None:
    model = trace(RolledPixels().double().eval(), torch.randn(2, 3, 4, 4, dtype=torch.float64))
    groups = find_channel_groups(model)
    free = find_free_groups(model, groups)
    names = [group.name for group in groups.groups]
    assert [names[index] for index in free.free] == ["conv"]
    assert {names[index]: why for index, why in free.reasons.items()} == {
        "next": "an operator meets its channels in an order of their own"
    }
    assert error(model, shuffled(model, groups, free.free)) <= TOLERANCE
    order = whole_order(groups, {names.index("next"): np.roll(np.arange(8), 1)})
    assert error(model, PermuteChannels(groups, order).run(model).model) > 1e-3


def test_indices_of_a_unit_move_in_order() -> None:
    units = np.array([0, 0, 1, 1, -1, 2, 0, 2, 1, 2])
    places = moved_places(units, np.array([1, 2, 0]))
    assert places.tolist() == [2, 3, 5, 7, 4, 0, 8, 1, 9, 6]


def test_refuses_an_order_that_leaves_a_group() -> None:
    model = trace(*build("plain_chain"))
    groups = find_channel_groups(model)
    with pytest.raises(ValueError, match=rf"^the order is no permutation of {groups.count} units$"):
        PermuteChannels(groups, np.zeros(groups.count, dtype=np.int64))
    with pytest.raises(ValueError, match=r"^the order moves units from one group to another$"):
        PermuteChannels(groups, np.roll(np.arange(groups.count), 1))


def correlated(model: TracedModel, share: float) -> TracedModel:
    """Return a model in which weak channels have most of the zeros, as in trained networks."""
    random = torch.Generator().manual_seed(0)
    masked = {}
    for use in {use for use in (weight_use(model, node) for node in model.calls()) if use is not None}:
        weight = model.tensor(use.name).detach()
        lead = torch.rand(len(weight), 1, generator=random) + torch.rand(1, weight.shape[1], generator=random)
        score = lead.reshape(*lead.shape, *[1] * (weight.ndim - 2)) + 0.5 * torch.rand(weight.shape, generator=random)
        masked[use.name] = weight * (score >= score.flatten().quantile(share))
    return model.with_tensors(masked)


def wide() -> TracedModel:
    """Return a chain of convolutions with a shortcut."""

    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 64, 3, padding=1)
            self.left, self.right = nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, 64, 1)
            self.grouped, self.norm = nn.Conv2d(64, 96, 3, groups=2), nn.BatchNorm2d(96)
            self.head = nn.Linear(96, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.stem(x))
            x = torch.relu(self.right(torch.relu(self.left(x))) + x)
            return self.head(torch.relu(self.norm(self.grouped(x))).mean(dim=(2, 3)))

    torch.manual_seed(0)
    return trace(Wide().double().eval(), torch.randn(2, 3, 6, 6, dtype=torch.float64))


@pytest.mark.parametrize("target", ["npu-8x8", "npu-16x16"])
def test_gathers_zeros_into_fewer_tiles(target: str) -> None:
    device = load_target(target)
    model = correlated(wide(), 0.9)
    found = find_channel_order(model, find_channel_groups(model), device)
    permuted = PermuteChannels(find_channel_groups(model), found.order).run(model).model
    assert found.before == all_live_tiles(model, device)
    assert found.after == all_live_tiles(permuted, device) < 0.85 * found.before
    assert error(model, permuted) <= TOLERANCE
    assert all(remark.changed for remark in found.remarks)


@pytest.mark.parametrize("tile", [(8, 8), (8, 1), (4, 4), (1, 1)])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_never_more_live_tiles(tile: tuple[int, int], share: float) -> None:
    model = with_zero_tiles(wide(), share, tile)
    groups = find_channel_groups(model)
    found = find_channel_order(model, groups, NPU)
    permuted = PermuteChannels(groups, found.order).run(model).model
    assert found.before == all_live_tiles(model, NPU)
    assert found.after == all_live_tiles(permuted, NPU) <= found.before
    if found.after == found.before:
        assert not axis_orders(groups, found.order)
