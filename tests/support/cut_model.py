"""Cut a network by a random mask, in the form that the oracle compares with the masked original."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from smartc.analysis.channels.channel_groups import ChannelGroups
from smartc.analysis.find_channel_groups import find_channel_groups
from smartc.decision.plan import kept_indices
from smartc.frontend.capture import trace
from smartc.ir.traced_model import TracedModel
from smartc.passes.remove_channels import BoolArray, RemoveChannels


@dataclass(frozen=True, eq=False)
class Cut:
    """A model and which of its units stay."""

    original: TracedModel
    groups: ChannelGroups
    keep: BoolArray

    def smaller(self) -> TracedModel:
        """Return the model without what does not stay."""
        return RemoveChannels(self.groups, self.keep).run(self.original).model

    @property
    def module(self) -> nn.Module:
        """Return the smaller model as the oracle runs it."""
        return self.smaller().graph_module

    @property
    def plan(self) -> Cut:
        """Return what the oracle takes its zeros from."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the part of plan.json that the oracle reads."""
        return {"tensors": kept_indices(self.original, self.groups, self.keep, {})}


def cut(model: TracedModel, seed: int) -> Cut:
    """Cut a random share of each group, at least one unit of each staying."""
    groups = find_channel_groups(model)
    return Cut(model, groups, random_keep(groups, seed))


def cut_module(module: nn.Module, inputs: Any, seed: int = 0) -> Cut:
    """Capture a module and cut it."""
    return cut(trace(module, inputs), seed)


def random_keep(groups: ChannelGroups, seed: int) -> BoolArray:
    """Return a mask over units, of another density in every group."""
    random = np.random.default_rng(seed)
    keep = np.zeros(groups.count, dtype=bool)
    for group in groups.groups:
        keep[group.units] = random.random(len(group)) < random.choice([0.0, 0.2, 0.5, 0.8])
        keep[random.choice(group.units)] = True
    return keep
