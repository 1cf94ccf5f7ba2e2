"""Unread channels: what only zeros read goes, nothing else does, and no layer becomes slower."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from smartc.analysis.analyse import analysed
from smartc.analysis.channels.channel_groups import ChannelGroups
from smartc.analysis.prices import price_layers
from smartc.decision.decision import Decision, by_scores, unread_channels
from smartc.decision.job import Clock, CompileJob
from smartc.frontend.capture import trace
from smartc.ir.traced_model import TracedModel
from smartc.masks.granularity import BlockGranularity
from smartc.masks.layouts import BoolArray
from smartc.passes.remove_channels import RemoveChannels
from smartc.passes.shared.base import run_passes
from smartc.selection.budget import parse_budget, resolved_budget
from smartc.targets.target import load_target
from tests.support.oracle import TOLERANCE, relative_error
from tests.support.random_networks import random_recipe
from tests.support.zoo import build

NPU = load_target("npu-8x8")
NETWORKS = ("plain_chain", "tied_convolutions", "grouped_resnext", "tied_autoencoder")


@cache
def captured(name: str) -> tuple[TracedModel, tuple[Any, ...]]:
    """Return a network of the zoo, or a random one by its number, in float64, with flattened inputs."""
    module, inputs = random_recipe(int(name), 4).build() if name.isdecimal() else build(name)
    return trace(module, inputs), tuple(tree_leaves(inputs))


def job(model: TracedModel, learner: str = "magnitude") -> CompileJob:
    """Return a project of a model on the small target."""
    layers = analysed(model)
    budget = resolved_budget(parse_budget(0.3), layers, NPU)
    return CompileJob(model, model, layers, NPU, budget, BlockGranularity(8, 8), learner, Clock())


def unread(model: TracedModel, groups: ChannelGroups, gone: BoolArray) -> TracedModel:
    """Return the model in which only zeros read some units."""
    zeros: dict[str, torch.Tensor] = {}
    for axis in groups.axes:
        if axis.role == "reads":
            weight = zeros.setdefault(axis.name, model.tensor(axis.name).detach().clone())
            places = np.flatnonzero((axis.units >= 0) & gone[axis.units])
            weight.index_fill_(axis.axis, torch.from_numpy(places), 0)
    return model.with_tensors(zeros)


def removed(model: TracedModel, decision: Decision) -> TracedModel:
    """Return the model without the channels."""
    return run_passes(model, (RemoveChannels(decision.options.groups, decision.keep),)).model


def assert_no_layer_slower(model: TracedModel, decision: Decision) -> None:
    """Fail if a layer takes longer without the channels."""
    smaller = removed(model, decision)
    after, before = analysed(smaller), decision.options.layers
    times = {row.name: time for row, time in zip(before.rows, price_layers(model, before, NPU).total, strict=True)}
    for row, time in zip(after.rows, price_layers(smaller, after, NPU).total, strict=True):
        assert time <= times[row.name] * (1 + 1e-9), row.name


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NETWORKS, "1", "2", "3"])
def test_removes_exactly_what_only_zeros_read(name: str) -> None:
    model, inputs = captured(name)
    groups = analysed(model).groups
    gone = np.random.default_rng(0).random(groups.count) < 0.4
    fewer = unread(model, groups, gone)
    decision = unread_channels(fewer, job(model))
    # A weight read by several axes is zero for units of others, too, and one unit of each group stays.
    again = unread(fewer, groups, ~decision.keep)
    for name_of in {axis.name for axis in groups.axes}:
        assert torch.equal(again.tensor(name_of), fewer.tensor(name_of))
    first = np.array([group.units[0] for group in groups.groups], dtype=np.int64)
    read = {int(unit) for axis in groups.axes if axis.role == "reads" for unit in axis.units}
    left = gone & decision.keep
    left[first] = False
    assert not [unit for unit in np.flatnonzero(left) if int(unit) in read]
    assert all(decision.keep[group.units].any() for group in groups.groups)
    assert decision.choice.kept.tolist() == [int(decision.keep[group.units].sum()) for group in groups.groups]
    assert relative_error(fewer.run(inputs), removed(fewer, decision).run(inputs)) <= TOLERANCE
    assert_no_layer_slower(fewer, decision)


def test_removes_nothing_where_all_are_read() -> None:
    model, _ = captured("plain_chain")
    decision = unread_channels(model, job(model))
    assert decision.keep.all()
    assert set(decision.choice.reasons) == {"all channels are read"}
    assert (decision.choice.note, decision.units, decision.learning) == ("", None, None)


def test_one_channel_of_a_dead_layer_stays() -> None:
    torch.manual_seed(0)
    model = trace(nn.Sequential(nn.Linear(4, 24), nn.ReLU(), nn.Linear(24, 3)).eval(), torch.randn(2, 4))
    dead = model.with_tensors({"2.weight": torch.zeros(3, 24)})
    decision = unread_channels(dead, job(model))
    assert np.flatnonzero(decision.keep).tolist() == [int(decision.options.groups.groups[0].units[0])]
    assert decision.choice.reasons == ("keeps the 1 of 24 channels that are read",)
    x = torch.randn(3, 4)
    assert torch.equal(removed(dead, decision).graph_module(x), dead.graph_module(x))


def test_nothing_goes_where_tiles_would_no_longer_lie_as_they_did() -> None:
    model = trace(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)).eval(), torch.randn(2, 64))
    weight = torch.ones(64, 64)
    # Every other tile of both weights is zero; without channel 0 the tiles that are left move by one.
    weight.view(8, 8, 8, 8)[::2, :, 1::2] = weight.view(8, 8, 8, 8)[1::2, :, ::2] = 0
    second = weight.clone()
    second[:, 0] = 0
    sparse = model.with_tensors({"0.weight": weight, "2.weight": second})
    decision = unread_channels(sparse, job(model))
    assert decision.keep.all()
    second[:, 8:16] = second[:, :8] = 0
    whole = unread_channels(sparse.with_tensors({"2.weight": second}), job(model))
    assert np.flatnonzero(~whole.keep).tolist() == list(range(16))
    assert whole.choice.reasons == ("keeps the 48 of 64 channels that are read",)


def test_by_scores_keeps_the_best_of_each_group() -> None:
    model, _ = captured("plain_chain")
    decision = by_scores(job(model))
    search = decision.options
    for group, kept in zip(search.groups.groups, decision.choice.kept, strict=True):
        inside = decision.keep[group.units]
        scores = search.scores[group.units]
        assert inside.sum() == kept
        assert scores[~inside].max(initial=0) <= scores[inside].min()
    assert decision.model is model
    assert (~decision.keep).any()
