"""Take recurrent layers apart: a call for each layer and direction, with hidden units of its own.

One call for several would force each layer and direction to lose as many hidden units as the others, as they share
one tensor of states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import getitem
from typing import Any, ClassVar

import torch
from torch import fx

from smartc.ir.traced_model import Remark, TracedModel, Value, arguments_of, layer_name, operator_of, value_of
from smartc.passes.shared.base import PassResult

aten = torch.ops.aten


@dataclass(frozen=True)
class SplitRecurrences:
    """Replace a recurrent layer that is several by as many calls, the backward ones on reversed sequences."""

    name: ClassVar[str] = "split-recurrences"

    def run(self, model: TracedModel) -> PassResult:
        """Return the model with one layer in one direction per call; what fills states with a number is not shared."""
        split = model.copy()
        remarks: list[Remark] = []
        for node in list(split.calls()):
            if operator_of(node).family != "recurrent":
                continue
            _own_states(split.graph, node)
            if _is_several(node):
                _Layers(split.graph, node).replace()
                remarks.append(Remark(layer_name(node), "each layer and direction is a call of its own", changed=True))
        return PassResult(split.cleaned(), tuple(remarks))


def _is_several(node: fx.Node) -> bool:
    """Say whether a call, of sequences that are not packed, has several layers or directions."""
    arguments = arguments_of(node)
    return getattr(node.target, "_overloadname", "") == "input" and (arguments[4] > 1 or arguments[7])


def _states(node: fx.Node) -> list[fx.Node]:
    """Return the states that a call starts from."""
    given = arguments_of(node)[1]
    return list(given) if isinstance(given, (list, tuple)) else [given]


def _own_states(graph: fx.Graph, node: fx.Node) -> None:
    """Give a call its own copies of states that hold one number: shared ones would tie its units to another's."""
    owned = [_filled_again(graph, state, node) or state for state in _states(node)]
    node.update_arg(1, owned if isinstance(arguments_of(node)[1], (list, tuple)) else owned[0])


def _filled_again(graph: fx.Graph, state: fx.Node, before: fx.Node, layers: int | None = None) -> fx.Node | None:
    """Return another tensor like one that holds one number, of another size of axis 0 if given; None of any other."""
    rule = operator_of(state).rule
    if rule not in ("fill", "new_fill") or operator_of(state).cost != "free":
        return None
    with graph.inserting_before(before):
        again = graph.node_copy(state)
    if layers is not None:
        place = 0 if rule == "fill" else 1
        again.update_arg(place, [layers, *arguments_of(state)[place][1:]])
        again.meta["value"] = value_of(state).resized(0, layers)
    return again


class _Layers:
    """The layers and directions of one call, which are written before it."""

    def __init__(self, graph: fx.Graph, node: fx.Node) -> None:
        """Take the call."""
        self.graph, self.node = graph, node
        self.layers, self.dropout, self.batch_first = (arguments_of(node)[place] for place in (4, 5, 8))
        self.ways = 2 if arguments_of(node)[7] else 1

    def replace(self) -> None:
        """Put the layers in the call's place."""
        with self.graph.inserting_before(self.node):
            outputs, states = self._written()
        for user in list(self.node.users):
            place = arguments_of(user)[1]
            if place == 0:
                user.replace_all_uses_with(outputs)
            else:
                self._replace_state(user, [state[place - 1] for state in states])
            self.graph.erase_node(user)
        # It could draw random numbers in training, so that torch.fx would leave it there unread.
        self.graph.erase_node(self.node)

    def _written(self) -> tuple[fx.Node, list[tuple[fx.Node, ...]]]:
        """Write all layers; return the outputs of the last, and the states after each layer and direction."""
        source = arguments_of(self.node)[0]
        states: list[tuple[fx.Node, ...]] = []
        for layer in range(self.layers):
            if layer and self.dropout:
                source = self._call(aten.dropout.default, (source, self.dropout, False), value_of(source))
            made = [self._one(source, layer * self.ways + way, backward=bool(way)) for way in range(self.ways)]
            states += [tuple(own) for _, *own in made]
            source = self._joined([outputs for outputs, *_ in made], 2)
        return source, states

    def _one(self, source: fx.Node, place: int, *, backward: bool) -> list[fx.Node]:
        """Write one layer in one direction; return its outputs and states."""
        arguments = list(arguments_of(self.node))
        each = len(arguments[2]) // (self.layers * self.ways)
        states = [self._state(state, place) for state in _states(self.node)]
        steps = [1 if self.batch_first else 0]
        if backward:
            source = self._call(aten.flip.default, (source, steps), value_of(source))
        arguments[:3] = source, states if len(states) > 1 else states[0], arguments[2][place * each :][:each]
        arguments[4:8] = 1, 0.0, arguments[6], False
        values = [self._value(own) for own in range(1 + len(states))]
        call = self._call(self.node.target, tuple(arguments), values)
        made = [self._call(getitem, (call, own), value) for own, value in enumerate(values)]
        if backward:
            made[0] = self._call(aten.flip.default, (made[0], steps), values[0])
        return made

    def _value(self, output: int) -> Value:
        """Return the facts of the outputs or of a state of one layer in one direction."""
        value: Value = value_of(self.node)[output]
        if output:
            return value.resized(0, 1)
        return value.resized(2, value.shape[2] // self.ways)

    def _state(self, state: fx.Node, place: int) -> fx.Node:
        """Return the state that one layer in one direction starts from."""
        parts = _parts(state)
        if len(parts) == self.layers * self.ways:
            return parts[place]
        filled = _filled_again(self.graph, state, self.node, layers=1)
        value = value_of(state).resized(0, 1)
        return filled or self._call(aten.slice.Tensor, (state, 0, place, place + 1), value)

    def _replace_state(self, whole: fx.Node, parts: Sequence[fx.Node]) -> None:
        """Let what picks the state of one layer read that alone, and everything else all of them joined."""
        for user in list(whole.users):
            arguments = arguments_of(user)
            if operator_of(user).name == "select" and arguments[1] == 0:
                user.update_arg(0, parts[arguments[2]])
                user.update_arg(2, 0)
        if whole.users:
            with self.graph.inserting_before(self.node):
                whole.replace_all_uses_with(self._joined(parts, 0))

    def _joined(self, parts: Sequence[fx.Node], axis: int) -> fx.Node:
        """Return tensors joined along an axis; a single one as it is."""
        if len(parts) == 1:
            return parts[0]
        value = value_of(parts[0])
        return self._call(aten.cat.default, (list(parts), axis), value.resized(axis, value.shape[axis] * len(parts)))

    def _call(self, target: Any, arguments: tuple[Any, ...], value: Any) -> fx.Node:
        """Write a call that belongs to the layer."""
        node = self.graph.call_function(target, arguments)
        node.meta = {**self.node.meta, "value": value}
        return node


def _parts(state: fx.Node) -> list[Any]:
    """Return the tensors that a state joins along axis 0, if it does and each is of one layer."""
    if operator_of(state).rule != "cat" or (*arguments_of(state)[1:], 0)[0] != 0:
        return []
    parts = list(arguments_of(state)[0])
    return parts if all(value_of(part).shape[0] == 1 for part in parts) else []
