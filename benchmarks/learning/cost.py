"""What a network costs, counted alike for every learner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from smartc.analysis.find_channel_groups import find_channel_groups
from smartc.analysis.find_layers import Layers, find_layers
from smartc.ir.traced_model import TracedModel
from smartc.targets.target import Target


@dataclass(frozen=True)
class Cost:
    """What one inference costs.

    Attributes:
        macs: Multiplications by weights that are not zero.
        ms: Simulated milliseconds, zero tiles computed too.
    """

    macs: float
    ms: float


def cost_of(model: TracedModel, target: Target) -> Cost:
    """Return what a model costs on a target."""
    layers = find_layers(model, find_channel_groups(model))
    priced = target.price(layers.workload(target, layers.full_sizes))
    shares = [_live_share(model, row.shape.weight) for row in layers.rows]
    macs = sum(float(count) * share for count, share in zip(priced.macs, shares, strict=True))
    return Cost(macs, priced.total_ms)


def _live_share(model: TracedModel, weight: str | None) -> float:
    """Return the share of a weight that is not zero; 1 where there is none."""
    if weight is None:
        return 1.0
    tensor = model.tensor(weight)
    return float(torch.count_nonzero(tensor)) / max(tensor.numel(), 1)


@dataclass(frozen=True, eq=False)
class ChannelCosts:
    """What networks cost that differ from another in their numbers of channels; none of them is captured."""

    layers: Layers
    target: Target

    @classmethod
    def of_model(cls, model: TracedModel, target: Target) -> ChannelCosts:
        """Return the costs of a captured model's smaller versions."""
        return cls(find_layers(model, find_channel_groups(model)), target)

    def of(self, smaller: nn.Module) -> Cost:
        """Return the cost of a version, told by the shapes of its parameters."""
        groups = self.layers.groups
        shapes = {name: parameter.shape for name, parameter in smaller.named_parameters()}
        kept = np.zeros(len(groups.groups), dtype=np.int64)
        for axis in groups.axes:
            of = np.unique(groups.group_of[axis.units[axis.units >= 0]])
            if axis.role == "owns" and len(of) == 1:
                kept[of[0]] = len(groups.groups[of[0]]) * shapes[axis.name][axis.axis] // len(axis.units)
        priced = self.target.price(self.layers.workload(self.target, self.layers.sizes(kept)))
        return Cost(float(priced.macs.sum()), priced.total_ms)
