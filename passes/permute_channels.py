"""Reorder channels for good: reindex every parameter axis that carries them, and leave nothing to do at run time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from smartc.analysis.channels.channel_groups import FROZEN, ChannelGroups
from smartc.analysis.channels.labels import IntArray
from smartc.ir.traced_model import Remark, TracedModel
from smartc.passes.shared.base import PassResult


@dataclass(frozen=True, eq=False)
class PermuteChannels:
    """Put other units of the same group in the places of units; the model computes what it did.

    Exact for the groups that ``find_free_groups`` returns: the graph itself stays as it is.

    Attributes:
        groups: An analysis of the same model.
        order: Which unit comes to the place of each unit, shape (units,).

    Raises:
        ValueError: The order is no permutation within each group.
    """

    groups: ChannelGroups
    order: IntArray
    name: ClassVar[str] = "permute-channels"

    def __post_init__(self) -> None:
        """Check the order."""
        group_of = self.groups.group_of
        if not np.array_equal(np.sort(self.order), np.arange(self.groups.count)):
            raise ValueError(f"the order is no permutation of {self.groups.count} units")
        if (group_of[self.order] != group_of).any():
            raise ValueError("the order moves units from one group to another")

    def run(self, model: TracedModel) -> PassResult:
        """Return the model with its channels in the new order."""
        permuted = model.copy()
        remarks = []
        for name, axes in axis_orders(self.groups, self.order).items():
            tensor = permuted.tensor(name).detach()
            for axis, places in axes.items():
                tensor = tensor.index_select(axis, torch.from_numpy(places).to(tensor.device))
            permuted.set_tensor(name, tensor)
            moved = " and ".join(f"{int((p != np.arange(len(p))).sum())} of axis {axis}" for axis, p in axes.items())
            remarks.append(Remark(name, f"moved channels: {moved}", changed=True))
        return PassResult(permuted.cleaned(), tuple(remarks))


def axis_orders(groups: ChannelGroups, order: IntArray) -> dict[str, dict[int, IntArray]]:
    """Return for each tensor the axes that change, each with the old index that comes to each place."""
    orders: dict[str, dict[int, IntArray]] = {}
    for axis in groups.axes:
        places = moved_places(axis.units, order)
        if (places != np.arange(len(places))).any():
            orders.setdefault(axis.name, {})[axis.axis] = places
    return orders


def moved_places(units: IntArray, order: IntArray) -> IntArray:
    """Return the index that comes to each place of an axis.

    Where a unit has several indices, the first goes to the place of the first, and so on.

    Args:
        units: The unit of each index, FROZEN where it stays.
        order: Which unit comes to the place of each unit; both have equally many indices.
    """
    places = np.arange(len(units))
    held = places[units != FROZEN]
    # Indices by unit, and by place within each: a row of indices per unit, one after another.
    before = held[np.argsort(units[held], kind="stable")]
    counts = np.bincount(units[held], minlength=len(order))
    starts = np.cumsum(counts) - counts
    which = np.arange(len(held)) - np.repeat(starts, counts)
    owner = np.repeat(np.arange(len(order)), counts)
    places[before] = before[starts[order[owner]] + which]
    return places


def whole_order(groups: ChannelGroups, orders: Mapping[int, IntArray]) -> IntArray:
    """Return the order of all units, given for some groups which member comes to the place of each member."""
    order = np.arange(groups.count)
    for group, members in orders.items():
        units = groups.groups[group].units
        order[units] = units[members]
    return order
