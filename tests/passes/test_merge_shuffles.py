"""Merge-shuffles turns what only permutes one axis into a gather, and leaves every other view alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smartc.analysis.find_channel_groups import find_channel_groups
from smartc.ir.traced_model import Remark, TracedModel
from smartc.passes.merge_shuffles import MergeShuffles
from tests.support.oracle import relative_error
from tests.support.raw_model import operators, raw, run_pure
from tests.support.rule_networks import Network, conv

Forward = Callable[[nn.Module, Tensor], Tensor]


def by_view(net: nn.Module, x: Tensor) -> Tensor:
    batch, channels, height, width = x.shape
    turned = x.view(batch, 2, channels // 2, height, width).transpose(1, 2).contiguous()
    return turned.view(batch, channels, height, width)


def by_unflatten(net: nn.Module, x: Tensor) -> Tensor:
    return x.unflatten(1, (2, 2, 3)).permute(0, 3, 1, 2, 4, 5).flatten(1, 3)


def of_tokens(net: nn.Module, x: Tensor) -> Tensor:
    return x.flatten(2).reshape(-1, 12, 5, 4).transpose(2, 3).reshape(-1, 12, 20)


def with_another_reader_of_the_source(net: nn.Module, x: Tensor) -> Tensor:
    return by_view(net, x) + x


def by_module(net: nn.Module, x: Tensor) -> Tensor:
    return F.channel_shuffle(x, 3)


SHUFFLES = (by_view, by_unflatten, of_tokens, with_another_reader_of_the_source, by_module)


def read_inside(net: nn.Module, x: Tensor) -> Tensor:
    split = x.view(-1, 2, 6, 4, 5)
    return split.transpose(1, 2).reshape(-1, 12, 4, 5) + split[:, 0].repeat(1, 2, 1, 1)


def two_axes_move(net: nn.Module, x: Tensor) -> Tensor:
    return x.transpose(1, 2).reshape(-1, 12, 4, 5)


def only_split_and_merged(net: nn.Module, x: Tensor) -> Tensor:
    return x.view(-1, 2, 6, 4, 5).reshape(-1, 12, 4, 5)


def summed_between(net: nn.Module, x: Tensor) -> Tensor:
    return (x.view(-1, 2, 6, 4, 5).transpose(1, 2) + 1).reshape(-1, 12, 4, 5)


def batch_takes_part(net: nn.Module, x: Tensor) -> Tensor:
    return x.reshape(2, -1, 12, 4, 5).transpose(0, 1).reshape(-1, 12, 4, 5)


OTHERS = (read_inside, two_axes_move, only_split_and_merged, summed_between, batch_takes_part)


def captured(forward: Forward) -> tuple[nn.Module, TracedModel]:
    """Return a network of one expression and what the exporter makes of it."""
    module = Network(forward)
    return module, raw(module, torch.zeros(2, 12, 4, 5))


@pytest.mark.parametrize("forward", SHUFFLES)
def test_shuffle_becomes_one_gather(forward: Forward) -> None:
    module, model = captured(forward)
    result = run_pure(MergeShuffles(), model)
    assert operators(result.model).count("index_select") == 1
    assert not {"transpose", "permute", "channel_shuffle"} & set(operators(result.model))
    x = torch.randn(3, 12, 4, 5)
    assert relative_error(module(x), result.model.run((x,))) == 0


@pytest.mark.parametrize("forward", OTHERS)
def test_other_views_stay(forward: Forward) -> None:
    module, model = captured(forward)
    result = run_pure(MergeShuffles(), model)
    assert operators(result.model) == operators(model)
    assert not result.modified
    x = torch.randn(4, 12, 4, 5)
    assert relative_error(module(x), result.model.run((x,))) == 0


def test_names_the_layer_and_the_axis() -> None:
    model = raw(nn.Sequential(conv(3, 6), nn.ChannelShuffle(2)), torch.zeros(2, 3, 4, 4))
    result = run_pure(MergeShuffles(), model)
    assert result.remarks == (Remark("1", "shuffles axis 1 by a constant index", changed=True),)
    order = result.model.tensor("channel_shuffle_order")
    assert order.tolist() == [0, 3, 1, 4, 2, 5]


def test_shuffled_channels_are_removed_alone() -> None:
    module = nn.Sequential(conv(3, 12), Network(by_view), conv(12, 2))
    model = raw(module, torch.zeros(2, 3, 4, 4))
    merged = find_channel_groups(run_pure(MergeShuffles(), model).model)
    assert (merged.count, find_channel_groups(model).count) == (12, 6)
    [reads] = [axis.units for axis in merged.axes if axis.role == "reads"]
    assert np.array_equal(reads, np.arange(12).reshape(2, 6).T.reshape(-1))
