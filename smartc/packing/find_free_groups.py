"""Find the channel groups whose units can change places without changing what the model computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from smartc.analysis.channels.channel_groups import FROZEN, ChannelGroups
from smartc.analysis.channels.labels import IntArray, factors_in
from smartc.ir.traced_model import TracedModel
from smartc.passes.permute_channels import PermuteChannels, whole_order

# In float64 another order of the same sums changes the last digits; another channel changes the first.
TOLERANCE = 1e-9
_SEED = 5


@dataclass(frozen=True)
class FreeGroups:
    """Which groups are free, by number, and for each other one why it is not."""

    free: tuple[int, ...]
    reasons: Mapping[int, str]


def find_free_groups(model: TracedModel, groups: ChannelGroups) -> FreeGroups:
    """Return the groups of more than one unit whose units can change places.

    The units of a group lie on the same axes, and every operator between them has a rule that treats
    all alike.  Where no unit has two indices of an axis, that is enough.  Where one has (a head, a channel
    before ``flatten``), the operators must also meet its indices in the same order as those of the others:
    such groups are shuffled in a trial, in float64, and stay as they are where the outputs change.
    """
    several = _with_several_indices(groups)
    single = [index for index, group in enumerate(groups.groups) if len(group) > 1 and index not in several]
    tried = sorted(index for index in several if len(groups.groups[index]) > 1)
    trial = _Trial(model.to(torch.float64), groups) if tried else None
    refused = {} if trial is None or trial.passes(tried) else trial.refused(tried)
    return FreeGroups(tuple(sorted({*single, *tried} - refused.keys())), refused)


def _with_several_indices(groups: ChannelGroups) -> set[int]:
    """Return the groups with a unit that has more than one index of some axis, of a parameter or inside the graph."""
    arrays = [axis.units for axis in groups.axes]
    arrays += [factor.labels.reshape(-1) for factor in factors_in(list(groups.labels.values()))]
    repeated = np.zeros(groups.count, dtype=bool)
    for units in {id(array): array for array in arrays}.values():
        repeated |= np.bincount(units[units != FROZEN], minlength=groups.count) > 1
    return set(groups.group_of[repeated].tolist())


class _Trial:
    """Runs a model with shuffled groups, and compares."""

    def __init__(self, model: TracedModel, groups: ChannelGroups) -> None:
        """Run the model as it is."""
        self.model, self.groups = model, groups
        generator = torch.Generator().manual_seed(_SEED)
        self.inputs = tuple(_random(value, generator) for value in model.examples)
        self.outputs = self._outputs(model)

    def passes(self, chosen: list[int]) -> bool:
        """Return whether the outputs stay the same when some groups are shuffled."""
        random = np.random.default_rng(_SEED)
        orders = {index: _cycle(len(self.groups.groups[index]), random) for index in chosen}
        moved = PermuteChannels(self.groups, whole_order(self.groups, orders)).run(self.model).model
        return all(map(_equal, self.outputs, self._outputs(moved)))

    def refused(self, tried: list[int]) -> dict[int, str]:
        """Return the groups that change the outputs when shuffled alone, or all if only several together do."""
        failing = [index for index in tried if not self.passes([index])]
        rest = [index for index in tried if index not in failing]
        failing = failing if self.passes(rest) else tried
        return dict.fromkeys(failing, "an operator meets its channels in an order of their own")

    def _outputs(self, model: TracedModel) -> list[Any]:
        """Return the outputs as a flat list."""
        return pytree.tree_leaves(model.run(self.inputs))


def _random(value: Any, generator: torch.Generator) -> Any:
    """Return normal numbers in place of floating ones."""
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return value
    return torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value.device)


def _equal(left: Any, right: Any) -> bool:
    """Return whether two outputs are equal up to rounding, relative to the largest number in the first."""
    if not isinstance(left, torch.Tensor) or not left.is_floating_point():
        return bool(torch.equal(left, right)) if isinstance(left, torch.Tensor) else left == right
    scale = float(left.abs().max()) if left.numel() else 0.0
    return bool(torch.allclose(left, right, rtol=0, atol=TOLERANCE * scale, equal_nan=True))


def _cycle(count: int, random: np.random.Generator) -> IntArray:
    """Return a permutation that leads from each member through all others.

    Where it changes nothing, every member is like the next, so all are alike; a permutation that left
    members alone would say nothing of them.
    """
    round_trip = random.permutation(count)
    order = np.empty(count, dtype=np.int64)
    order[round_trip] = np.roll(round_trip, 1)
    return order
