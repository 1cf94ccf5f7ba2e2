"""Remove channels for good: slice the parameters and rewrite the sizes that the graph spells out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import fx

from smartc.analysis.channels.channel_groups import FROZEN, ChannelGroups, ParameterAxis, surviving
from smartc.analysis.channels.labels import BoolArray, Labels
from smartc.core.errors import InternalError
from smartc.ir.traced_model import Remark, TracedModel, value_of
from smartc.passes.shared.base import PassResult
from smartc.passes.shared.rewrite_sizes import rewrite_sizes
from smartc.passes.shared.survivors import Survivors


@dataclass(frozen=True, eq=False)
class RemoveChannels:
    """Keep the chosen units of an analysis of the same model, and nothing of the others.

    Attributes:
        groups: The analysis.
        keep: Whether each unit stays.
    """

    groups: ChannelGroups
    keep: BoolArray
    name: ClassVar[str] = "remove-channels"

    def run(self, model: TracedModel) -> PassResult:
        """Return the smaller model; what it computes equals the model whose readers of removed channels are zero."""
        smaller = model.copy()
        labels = {
            new: self.groups.labels.get(old) for old, new in zip(model.graph.nodes, smaller.graph.nodes, strict=True)
        }
        survivors = Survivors(labels, self.keep)
        for node in list(smaller.graph.nodes):
            if node.op == "call_function":
                rewrite_sizes(smaller, node, survivors)
        for node in smaller.graph.nodes:
            _shrink_value(node, survivors)
        remarks = self._slice_parameters(smaller)
        return PassResult(smaller.cleaned(), tuple(remarks))

    def _slice_parameters(self, model: TracedModel) -> list[Remark]:
        """Slice every parameter that lost channels, all of its axes at once."""
        by_name: dict[str, dict[int, ParameterAxis]] = {}
        for axis in self.groups.axes:
            by_name.setdefault(axis.name, {})[axis.axis] = axis
        remarks = []
        for name, axes in by_name.items():
            sliced = _sliced(model.tensor(name).detach(), axes.values(), self.keep)
            if sliced is not None:
                shape = tuple(model.tensor(name).shape)
                model.set_tensor(name, sliced)
                remarks.append(Remark(name, f"{shape} is now {tuple(sliced.shape)}", changed=True))
        return remarks


def _sliced(tensor: torch.Tensor, axes: Iterable[ParameterAxis], keep: BoolArray) -> torch.Tensor | None:
    """Return the surviving part of a tensor, or None where all of it survives."""
    changed = False
    # The first axes first: what they leave lies together, so that less is left to pick from the others.
    for axis in sorted(axes, key=lambda axis: axis.axis):
        alive = surviving(axis.units, keep)
        if not alive.any():
            raise InternalError(f"all {len(alive)} indices would be removed", where=f"{axis.name}, axis {axis.axis}")
        if not alive.all():
            tensor = _take(tensor, axis.axis, alive)
            changed = True
    return tensor if changed else None


def _take(tensor: torch.Tensor, axis: int, alive: BoolArray) -> torch.Tensor:
    """Return the surviving indices of an axis; NumPy does it several times faster than torch on the CPU."""
    if tensor.device.type != "cpu" or tensor.dtype is torch.bfloat16:
        return tensor.index_select(axis, torch.from_numpy(np.flatnonzero(alive)).to(tensor.device))
    # Indices that stay or go together, such as the pixels of a flattened channel, are taken together.
    run = math.gcd(len(alive), *(np.flatnonzero(alive[1:] != alive[:-1]) + 1).tolist())
    before, after = tensor.shape[:axis], tensor.shape[axis + 1 :]
    runs = tensor.numpy().reshape(*before, -1, run, *after).take(np.flatnonzero(alive[::run]), axis=axis)
    return torch.from_numpy(runs.reshape(*before, -1, *after))


def _shrink_value(node: fx.Node, survivors: Survivors) -> None:
    """Note the shapes that are left on a node."""
    labels, value = survivors.labels.get(node), value_of(node)
    if isinstance(labels, tuple):
        node.meta["value"] = [_shrunk(one, part, survivors) for one, part in zip(value, labels, strict=True)]
    elif isinstance(labels, Labels):
        node.meta["value"] = _shrunk(value, labels, survivors)


def _shrunk(value: Any, labels: Labels, survivors: Survivors) -> Any:
    """Return the value of one output with the sizes that are left."""
    for axis in {axis for factor in labels.factors for axis in factor.axes}:
        alive = survivors.along(labels, axis)
        if alive is not None:
            value = value.resized(axis, int(alive.sum()) * (value.shape[axis] // max(len(alive), 1)))
    return value


def masked_axes(groups: ChannelGroups, keep: BoolArray) -> list[tuple[ParameterAxis, BoolArray]]:
    """Return the axes that lose indices, each with what survives."""
    pairs = [(axis, surviving(axis.units, keep)) for axis in groups.axes]
    return [(axis, alive) for axis, alive in pairs if not alive.all()]


assert FROZEN == -1  # surviving() looks frozen units up at the end of its array
