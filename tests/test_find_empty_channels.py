"""Channels that nothing reads are found, and removing them changes no output."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from smartc.capture import trace
from smartc.model import TracedModel
from smartc.passes.find_channel_groups import find_channel_groups
from smartc.passes.find_empty_channels import find_empty_channels
from smartc.passes.remove_channels import RemoveChannels
from smartc.targets.target import load_target
from tests.oracle import TOLERANCE, relative_error

NPU = load_target("npu-8x8")


class Shortcut(nn.Module):
    """Two layers read what the first gives."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 36, 3), nn.BatchNorm2d(36)
        self.left, self.right = nn.Conv2d(36, 16, 1), nn.Conv2d(36, 16, 3, padding=1)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.norm(self.first(x)))
        return self.head((self.left(x) + self.right(x)).mean(dim=(2, 3)))


def traced() -> TracedModel:
    """Return the network in float64."""
    torch.manual_seed(0)
    return trace(Shortcut().double().eval(), torch.randn(2, 3, 6, 6, dtype=torch.float64))


def removed(model: TracedModel) -> list[int]:
    """Return the channels of the first layer that are removed, after checking that no output changes."""
    groups = find_channel_groups(model)
    keep = find_empty_channels(model, groups, NPU)
    smaller = RemoveChannels(groups, keep).run(model).model
    inputs = (torch.randn(3, 3, 6, 6, dtype=torch.float64),)
    assert relative_error(model.run(inputs), smaller.run(inputs)) <= TOLERANCE
    owner = next(axis for axis in groups.axes if (axis.name, axis.axis) == ("first.weight", 0))
    return np.flatnonzero(~keep[owner.units]).tolist()


def zeroed(model: TracedModel, **channels: slice) -> TracedModel:
    """Return the model with input channels of some layers zero."""
    weights = {}
    for layer, part in channels.items():
        weight = model.tensor(f"{layer}.weight").detach().clone()
        weight[:, part] = 0
        weights[f"{layer}.weight"] = weight
    return model.with_tensors(weights)


def test_removes_what_no_layer_reads() -> None:
    model = zeroed(traced(), left=slice(8, 24), right=slice(8, 30))
    assert removed(model) == list(range(8, 24))


def test_keeps_what_one_layer_reads() -> None:
    assert removed(zeroed(traced(), left=slice(0, 36))) == []


def test_removes_whole_sides_of_tiles() -> None:
    model = zeroed(traced(), left=slice(4, 20), right=slice(4, 20))
    assert removed(model) == list(range(8, 16))


def test_leaves_something() -> None:
    everything = zeroed(traced(), left=slice(0, 36), right=slice(0, 36), head=slice(0, 16))
    assert removed(everything) == list(range(32))
