"""Let norms take their statistics over the channels that stay, where removal will leave them no others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import fx

from smartc.analysis.channels.channel_groups import ApproximateNorm, ChannelGroups, surviving
from smartc.ir.traced_model import Remark, TracedModel, arguments_of, layer_name, operator_of, value_of
from smartc.passes.shared.base import PassResult

aten = torch.ops.aten
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, eq=False)
class NormaliseKept:
    """Give every norm that will lose channels those alone that stay, and put zeros where its outputs lack the others.

    What removal leaves computes what this does with readers of removed channels zero.

    Attributes:
        groups: The analysis of the same model.
        keep: Whether each unit stays.
        whole: Whether these norms see all channels after all, through the same calls: what to compare with.
    """

    groups: ChannelGroups
    keep: BoolArray
    whole: bool = False
    name: ClassVar[str] = "normalise-kept"

    def run(self, model: TracedModel) -> PassResult:
        """Return the model whose norms see only what stays; the same graph where they lose nothing."""
        approximate = model.copy()
        twins = dict(zip(model.graph.nodes, approximate.graph.nodes, strict=True))
        remarks = []
        for norm in self.groups.changed_norms(self.keep):
            alive = surviving(norm.units, self.keep) | self.whole
            _Narrowed(approximate, twins[norm.node], norm, alive).rewrite()
            text = f"normalises by the {int(alive.sum())} of {len(alive)} channels that stay"
            remarks.append(Remark(layer_name(norm.node), text, changed=True))
        return PassResult(approximate.cleaned(), tuple(remarks))


@dataclass(frozen=True, eq=False)
class _Narrowed:
    """One norm that is to see only what stays."""

    model: TracedModel
    node: fx.Node
    norm: ApproximateNorm
    alive: BoolArray

    def rewrite(self) -> None:
        """Rewrite the norm in place."""
        with self.model.graph.inserting_before(self.node):
            kept = self._index("kept", np.flatnonzero(self.alive))
            self.node.update_arg(0, self._taken(arguments_of(self.node)[0], self.norm.axis, kept))
            _NARROW.get(operator_of(self.node).rule, _nothing)(self, kept)

    def scatter(self) -> None:
        """Put zeros where the outputs lack channels."""
        whole, axis = value_of(self.node), self.norm.axis
        count = int(self.alive.sum())
        places = np.where(self.alive, np.cumsum(self.alive) - 1, count)
        readers = list(self.node.users)
        self.node.meta["value"] = whole.resized(axis, count)
        with self.model.graph.inserting_after(self.node):
            room = [0, 0] * (len(whole.shape) - 1 - axis) + [0, 1]
            padded = self.model.graph.call_function(aten.constant_pad_nd.default, (self.node, room))
            padded.meta["value"] = whole.resized(axis, count + 1)
        with self.model.graph.inserting_after(padded):
            index = self._index("places", places)
        with self.model.graph.inserting_after(index):
            full = self.model.graph.call_function(aten.index_select.default, (padded, axis, index))
            full.meta["value"] = whole
        for reader in readers:
            reader.replace_input_with(self.node, full)

    def take_argument(self, place: int, axis: int, kept: fx.Node) -> None:
        """Give the norm the kept part of an argument, if there is one."""
        arguments = arguments_of(self.node)
        if len(arguments) > place and isinstance(arguments[place], fx.Node):
            self.node.update_arg(place, self._taken(arguments[place], axis, kept))

    def _taken(self, source: fx.Node, axis: int, kept: fx.Node) -> fx.Node:
        """Return the kept indices of an axis of a value."""
        taken = self.model.graph.call_function(aten.index_select.default, (source, axis, kept))
        taken.meta["value"] = value_of(source).resized(axis, int(self.alive.sum()))
        return taken

    def _index(self, what: str, index: Any) -> fx.Node:
        """Return a node that reads a constant index."""
        return self.model.add_buffer(f"{self.node.name}_{what}", torch.from_numpy(index.astype(np.int64)))


def _layer_norm(narrowed: _Narrowed, kept: fx.Node) -> None:
    """Narrow the normalised sizes, the scale and the shift."""
    sizes = list(arguments_of(narrowed.node)[1])
    place = narrowed.norm.axis - (len(value_of(narrowed.node).shape) - len(sizes))
    sizes[place] = int(narrowed.alive.sum())
    narrowed.node.update_arg(1, sizes)
    for argument in (2, 3):
        narrowed.take_argument(argument, place, kept)
    narrowed.scatter()


def _group_norm(narrowed: _Narrowed, kept: fx.Node) -> None:
    """Narrow the scale and the shift; there are as many groups as before."""
    for argument in (2, 3):
        narrowed.take_argument(argument, 0, kept)
    narrowed.scatter()


def _nothing(narrowed: _Narrowed, kept: fx.Node) -> None:
    """Leave all else: a mean or variance has no other size, and its output lacks the axis."""


# By the rule of channels.
_NARROW: dict[str, Callable[[_Narrowed, fx.Node], None]] = {"layer_norm": _layer_norm, "group_norm": _group_norm}
