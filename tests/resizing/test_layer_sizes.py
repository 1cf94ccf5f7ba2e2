"""PyTorch's layers with fewer channels have the attributes of layers that are made with fewer."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils import weight_norm as old_weight_norm

from smartc.resizing.layer_sizes import layer_sizes

LAYERS: dict[str, tuple[nn.Module, nn.Module]] = {
    "linear": (nn.Linear(8, 6), nn.Linear(4, 3)),
    "bilinear": (nn.Bilinear(8, 6, 4), nn.Bilinear(4, 3, 2)),
    "conv1d": (nn.Conv1d(8, 6, 3), nn.Conv1d(4, 3, 3)),
    "grouped": (nn.Conv2d(8, 6, 3, groups=2), nn.Conv2d(4, 2, 3, groups=2)),
    "depthwise": (nn.Conv2d(8, 16, 3, groups=8), nn.Conv2d(3, 6, 3, groups=3)),
    "transposed": (nn.ConvTranspose2d(8, 6, 3), nn.ConvTranspose2d(4, 3, 3)),
    "grouped transposed": (nn.ConvTranspose2d(8, 6, 3, groups=2), nn.ConvTranspose2d(4, 2, 3, groups=2)),
    "depthwise transposed": (nn.ConvTranspose2d(8, 8, 3, groups=8), nn.ConvTranspose2d(3, 3, 3, groups=3)),
    "batch norm": (nn.BatchNorm2d(8), nn.BatchNorm2d(3)),
    "batch norm without weights": (nn.BatchNorm2d(8, affine=False), nn.BatchNorm2d(3, affine=False)),
    "instance norm": (nn.InstanceNorm2d(8, affine=True), nn.InstanceNorm2d(3, affine=True)),
    "group norm": (nn.GroupNorm(4, 8), nn.GroupNorm(3, 6)),
    "layer norm": (nn.LayerNorm([8, 4]), nn.LayerNorm([3, 4])),
    "rms norm": (nn.RMSNorm(8), nn.RMSNorm(3)),
    "embedding": (nn.Embedding(8, 6), nn.Embedding(8, 3)),
    "lstm": (nn.LSTM(8, 6, num_layers=2, bidirectional=True), nn.LSTM(4, 3, num_layers=2, bidirectional=True)),
    "projected lstm": (nn.LSTM(8, 6, proj_size=4), nn.LSTM(4, 3, proj_size=2)),
    "gru": (nn.GRU(8, 6), nn.GRU(4, 3)),
    "rnn": (nn.RNN(8, 6), nn.RNN(4, 3)),
    "lstm cell": (nn.LSTMCell(8, 6), nn.LSTMCell(4, 3)),
    "prelu": (nn.PReLU(8), nn.PReLU(3)),
    "weight norm": (parametrizations.weight_norm(nn.Linear(8, 6)), parametrizations.weight_norm(nn.Linear(4, 3))),
}


def _sizes(layer: nn.Module) -> dict[str, Any]:
    """Return all attributes of a layer that are sizes."""
    kinds = (int, tuple, list)
    return {name: value for name, value in vars(layer).items() if isinstance(value, kinds) and not name.startswith("_")}


@pytest.mark.parametrize("name", LAYERS)
def test_the_attributes_are_those_of_a_layer_made_small(name: str) -> None:
    layer, small = LAYERS[name]
    follows = copy.deepcopy(layer)
    for attribute, value in (layer_sizes(layer, small) or {}).items():
        setattr(follows, attribute, value)
    assert _sizes(follows) == _sizes(small)
    assert repr(follows) == repr(small)


def test_the_older_weight_norm_is_known() -> None:
    layer, small = (old_weight_norm(nn.Linear(*sizes)) for sizes in ((8, 6), (4, 3)))
    small.weight = torch.zeros(6, 8)  # is only made anew when the layer runs
    assert layer_sizes(layer, small) == {"in_features": 4, "out_features": 3}


@pytest.mark.parametrize(
    "layer", [nn.ReLU(), nn.LayerNorm(8, elementwise_affine=False), nn.Sequential(nn.Linear(4, 4))]
)
def test_what_has_no_tensors_of_its_own_is_left_to_others(layer: nn.Module) -> None:
    assert layer_sizes(layer, layer) is None
