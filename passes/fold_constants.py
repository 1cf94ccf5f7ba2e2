"""Fold what parameters alone compute to constants, where that lets channels go which the formula would keep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import fx, nn

from smartc.analysis.channels.channel_groups import ChannelGroups
from smartc.analysis.constant_nodes import ancestors, constant_nodes
from smartc.analysis.find_channel_groups import LONGEST_INDEX, find_channel_groups
from smartc.analysis.hidden_channels import hides_channels, is_weight_of, removable_at, removable_outside
from smartc.ir.traced_model import Remark, TracedModel, Value, argument_of, operator_of, stored_name, value_of
from smartc.passes.shared.base import PassResult
from smartc.passes.shared.new_tensor import new_tensor

# A constant may have as many elements, or this many times those that it is computed from: a bias for every pair of
# positions is best computed from its table.
SMALL, LARGEST_GROWTH = 2**18, 4
_GATHERS = ("index", "index_select")


@dataclass(frozen=True)
class FoldConstants:
    """Compute what no input has a part in once, with the same operators in the same types, and store the result.

    A computed weight stays computed where a stored one would leave no more channels free, so that a plan speaks of the
    user's own parameters as far as it can.

    Attributes:
        parameters: Whether parameters may be folded; in a network that is yet to be trained they may not.
        all_weights: Whether to fold weights that hide no channels, too: blocks can be removed from stored weights only.
    """

    parameters: bool = True
    all_weights: bool = False
    name: ClassVar[str] = "fold-constants"

    def run(self, model: TracedModel) -> PassResult:
        """Return the model with its constants."""
        found = self._find(model)
        chosen = self._worth_folding(model, found) if found else []
        if not chosen:
            return PassResult(model.copy().cleaned())
        folded = _folded(model, chosen)[0]
        names = list(folded.constants)[len(model.constants) :]
        remarks = [
            Remark(name, f"holds what {_listed(folded.constants[name])} compute", changed=True) for name in names
        ]
        return PassResult(replace(folded, remarks=(*model.remarks, _told(model, names))), tuple(remarks))

    def _find(self, model: TracedModel) -> list[_Constant]:
        """Return the constants that hide channels, or whose layers are cut for nothing."""
        constant = constant_nodes(model)
        order = {node: place for place, node in enumerate(model.graph.nodes)}
        edges = [node for node in constant if node.op != "get_attr" and _readers(node, constant)]
        found = []
        for node in sorted(_small_enough(model, edges, constant), key=order.__getitem__):
            region = tuple(sorted(ancestors([node]), key=order.__getitem__))
            one = _Constant(model, node, _readers(node, constant), region)
            hides = one.has_layers or hides_channels(model, node, region, one.live) or one.is_index or self._wants(one)
            if hides and (self.parameters or not one.trained) and not one.sources.keys() & model.untouched.keys():
                found.append(one)
        return found

    def _worth_folding(self, model: TracedModel, found: Sequence[_Constant]) -> list[_Constant]:
        """Return the constants whose folding lets more channels go.

        Weights own and read channels and tie no others, so that each is judged alone.  What is added or multiplied by
        element ties what it meets, which can be worse than to keep it: those are folded if the network gains by them.
        """
        before = find_channel_groups(model)
        after, names = _analysed(model, found)
        gains = [one for one in found if removable_at(after, names[one.node]) > removable_at(before, one.node)]
        sure = [one for one in found if one.is_index or self._wants(one)]
        weights = [one for one in found if one in sure or (one.is_weight and (one in gains or one.has_layers))]
        others = [one for one in found if one not in weights and (one in gains or one.has_layers)]
        if not others:
            return weights
        # Channels of layers that compute constants save no time.
        idle = {name for one in found if one.has_layers for name in one.sources}
        least = removable_outside(_groups(model, weights) if weights else before, idle)
        for some in (others, [one for one in others if one.has_layers]):
            chosen = [one for one in found if one in weights or one in some]
            most = removable_outside(_groups(model, chosen), idle)
            if most > least or (most == least and all(one.has_layers for one in some)):
                return chosen
        return weights

    def _wants(self, one: _Constant) -> bool:
        """Return whether a weight is folded though it hides nothing."""
        return self.all_weights and one.multiplies


@dataclass(frozen=True, eq=False)
class _Constant:
    """A value that can be stored.

    Attributes:
        model: Whose graph it is in.
        node: What computes it.
        live: The calls that read it.
        region: The node and all that it is computed from, in graph order.
    """

    model: TracedModel
    node: fx.Node
    live: tuple[fx.Node, ...]
    region: tuple[fx.Node, ...] = field(repr=False)

    @property
    def sources(self) -> dict[str, torch.Tensor]:
        """Return the stored tensors that it is computed from."""
        names = (str(node.target) for node in self.region if node.op == "get_attr")
        return {name: self.model.tensor(name) for name in names}

    @property
    def trained(self) -> dict[str, torch.Tensor]:
        """Return those of them that are parameters."""
        return {name: tensor for name, tensor in self.sources.items() if isinstance(tensor, nn.Parameter)}

    @property
    def is_weight(self) -> bool:
        """Return whether a call multiplies by it as by a weight, or adds it as that layer's bias."""
        return any(is_weight_of(self.node, reader) or operator_of(reader).is_layer for reader in self.live)

    @property
    def is_index(self) -> bool:
        """Return whether it says which channels a gather takes: rules read that from stored tensors alone."""
        gathers = any(operator_of(reader).rule in _GATHERS and reader.args[0] is not self.node for reader in self.live)
        known = stored_name(self.node) is not None or self.value.numel() > LONGEST_INDEX
        return gathers and not known and not self.value.is_floating_point()

    @property
    def multiplies(self) -> bool:
        """Return whether it is the weight of a call, and no call reads what it comes from."""
        names = self.sources.keys()
        readers = (user for node in self.model.graph.nodes if str(node.target) in names for user in node.users)
        alone = set(readers) <= set(self.region)
        return alone and any(is_weight_of(self.node, reader) for reader in self.live)

    @property
    def has_layers(self) -> bool:
        """Return whether layers compute it, whose channels would cost accuracy and save no time."""
        return any(operator_of(node).is_layer for node in self.region)

    @cached_property
    def value(self) -> torch.Tensor:
        """Return the value, a parameter where it is as free as those that it comes from.

        What is larger than these is a buffer: training would take numbers apart that are one.
        """
        trained = self.trained.values()
        value = _computed(self.model, self.region).detach().clone()
        free = value.numel() <= sum(tensor.numel() for tensor in trained)
        if not trained or not free or not (value.is_floating_point() or value.is_complex()):
            return value
        return nn.Parameter(value, requires_grad=any(tensor.requires_grad for tensor in trained))


def _computed(model: TracedModel, region: Sequence[fx.Node]) -> torch.Tensor:
    """Return the value of the last node of a region."""
    values: dict[fx.Node, torch.Tensor] = {}
    with torch.no_grad():
        for node in region:
            if node.op == "get_attr":
                values[node] = model.tensor(str(node.target)).detach()
            else:
                args, kwargs = fx.map_arg((node.args, node.kwargs), values.__getitem__)
                values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
    return values[region[-1]]


def _readers(node: fx.Node, constant: set[fx.Node]) -> tuple[fx.Node, ...]:
    """Return the calls that read a constant and are none."""
    return tuple(user for user in node.users if user not in constant and user.op == "call_function")


def _small_enough(model: TracedModel, edges: Iterable[fx.Node], constant: set[fx.Node]) -> set[fx.Node]:
    """Return the constants at the edge of what inputs compute; in place of a large one, those that it is made of."""
    found: set[fx.Node] = set()
    todo = list(edges)
    while todo:
        node = todo.pop()
        value = value_of(node)
        if isinstance(value, Value) and not value.computed and _fits(model, node, value):
            found.add(node)
        else:
            todo += [source for source in node.all_input_nodes if source.op != "get_attr" and source in constant]
    return found


def _fits(model: TracedModel, node: fx.Node, value: Value) -> bool:
    """Return whether a constant is hardly larger than what it is computed from."""
    size = torch.Size(value.shape).numel()
    stored = {str(source.target) for source in ancestors([node]) if source.op == "get_attr"}
    return size <= max(SMALL, LARGEST_GROWTH * sum(model.tensor(name).numel() for name in stored))


def _groups(model: TracedModel, chosen: Sequence[_Constant]) -> ChannelGroups:
    """Return the channel groups with some constants folded."""
    return find_channel_groups(_folded(model, chosen)[0])


def _analysed(model: TracedModel, chosen: Sequence[_Constant]) -> tuple[ChannelGroups, Mapping[fx.Node, fx.Node]]:
    """Return the channel groups with some constants folded, and the node that reads each of these."""
    folded, names = _folded(model, chosen)
    nodes = {str(node.target): node for node in folded.graph.nodes if node.op == "get_attr"}
    return find_channel_groups(folded), {node: nodes[name] for node, name in names.items()}


def _folded(model: TracedModel, chosen: Sequence[_Constant]) -> tuple[TracedModel, dict[fx.Node, str]]:
    """Return the model with some constants stored, and the name of each by the node that computed it."""
    folded = model.copy()
    copies = dict(zip(model.graph.nodes, folded.graph.nodes, strict=True))
    names: dict[fx.Node, str] = {}
    made: dict[str, tuple[str, ...]] = {}
    for one in chosen:
        node = copies[one.node]
        with folded.graph.inserting_before(node):
            stored = new_tensor(folded, _wanted_name(one), one.value)
        node.replace_all_uses_with(stored)
        names[one.node] = name = str(stored.target)
        made[name] = tuple(_users_names(one, one.sources))
    left = folded.cleaned().copy()  # a copy has no tensors that nothing reads
    return replace(left.cleaned(), constants={**model.constants, **made}), names


def _wanted_name(one: _Constant) -> str:
    """Return the name that a constant has in the user's layer, or what is common to those that it comes from."""
    for reader in one.live:
        operator = operator_of(reader)
        if operator.is_layer and operator.weight is not None:
            places = {"weight": operator.weight.place, "bias": operator.weight.bias or 0}
            leaf = next((leaf for leaf, place in places.items() if argument_of(reader, place, leaf) is one.node), None)
            if leaf is not None:
                return ".".join(filter(None, (_module_of(reader), leaf)))
    parts = [name.split(".") for name in _users_names(one, one.trained or one.sources)]
    same = ".".join(column[0] for column in zip(*parts, strict=False) if len(set(column)) == 1)
    module = _module_of(one.live[0] if one.live else one.node)
    encloses = f"{module}.".startswith(f"{same}.") or not same
    return ".".join(filter(None, (module, one.node.name))) if encloses else same


def _users_names(one: _Constant, sources: Iterable[str]) -> Iterator[str]:
    """Yield the names in the user's ``state_dict`` of some that a constant is computed from."""
    for name in sources:
        yield from one.model.constants.get(name, [name] if name in one.model.state_names else [])


def _module_of(node: fx.Node) -> str:
    """Return the path of the user's module that calls an operator."""
    stack = node.meta.get("nn_module_stack") or {}
    path: str = next(reversed(stack.values()), ("", ""))[0]
    return path


def _told(model: TracedModel, names: Sequence[str]) -> Remark:
    """Return what the user should know of all constants together."""
    text = f"{_listed(names)} {'holds' if len(names) == 1 else 'hold'} what parameters or literals alone compute"
    return Remark(model.name, f"{text}: it is computed once")


def _listed(names: Sequence[str]) -> str:
    """Return the first of some names, and how many there are more."""
    if len(names) > 3:
        return f"{names[0]} and {len(names) - 1} more"
    return " and ".join(names) or "literals"
