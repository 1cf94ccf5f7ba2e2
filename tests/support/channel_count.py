"""How many channels a plan takes from a network, counted without asking the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd


@dataclass(frozen=True)
class ChannelCount:
    """Output channels over all layers of a network.

    Args:
        total: Of every convolution, linear, embedding and recurrent layer.
        cut: Of those layers that lose some.
        removed: How many are lost.
    """

    total: int
    cut: int
    removed: int


def count_channels(module: nn.Module, plan: Mapping[str, Any]) -> ChannelCount:
    """Return how many channels the layers make and how many the plan takes."""
    kept_shares = _kept_shares(module, plan)
    total = cut = removed = 0
    for layer in module.modules():
        channels = _channels_made(layer)
        total += channels
        shares = [kept_shares[id(weight)] for weight in layer.parameters() if id(weight) in kept_shares]
        if channels and shares:
            cut += channels
            removed += round(channels * (1 - shares[0]))
    return ChannelCount(total, cut, removed)


def _kept_shares(module: nn.Module, plan: Mapping[str, Any]) -> dict[int, float]:
    """Return, by the identity of a weight, the share that it keeps of the axis it owns."""
    shares = {}
    for name, weight in module.named_parameters(remove_duplicate=False):
        for axis in plan["tensors"].get(name, {"axes": ()})["axes"]:
            if axis["role"] == "owns" and weight.ndim > 1:
                shares[id(weight)] = len(axis["kept"]) / weight.shape[axis["axis"]]
    return shares


def _channels_made(layer: nn.Module) -> int:
    """Return the output channels of a layer with a weight matrix, 0 of any other."""
    if isinstance(layer, _ConvNd):
        return layer.out_channels
    if isinstance(layer, nn.Linear):
        return layer.out_features
    if isinstance(layer, nn.Embedding):
        return layer.embedding_dim
    if isinstance(layer, nn.RNNBase):
        return layer.hidden_size * layer.num_layers * (2 if layer.bidirectional else 1)
    return 0
