"""Find which channels must be removed together, by running the graph on labels."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx

from smartc.analysis import channel_rules
from smartc.analysis.channel_rules.registry import Rule, rule_of
from smartc.analysis.channels.channel_groups import (
    FROZEN,
    ApproximateNorm,
    ChannelGroup,
    ChannelGroups,
    ParameterAxis,
    Role,
)
from smartc.analysis.channels.labels import Declined, IntArray, LabelBook, Labels, Site, factors_in
from smartc.analysis.channels.per_sample import PER_SAMPLE, is_per_sample, sample_shape
from smartc.analysis.channels.reshape_labels import MERGES_BATCH
from smartc.analysis.channels.settle import settle
from smartc.ir.traced_model import TracedModel, Value, layer_name, operator_name, operator_of, storage_key, value_of

log = logging.getLogger(__name__)

# What a rule raises on arguments that it was not written for.
UNFORESEEN = (AttributeError, IndexError, KeyError, TypeError, ValueError)
assert channel_rules.FAMILIES  # imported to fill the registry

# The index tensors of gathers are read; anything longer is data, not an index of channels.
LONGEST_INDEX = 1_000_000


def find_channel_groups(model: TracedModel, approximate: bool = False) -> ChannelGroups:
    """Return the units of channels that can be removed without changing the rest.

    Args:
        model: The captured model.
        approximate: Whether norms may lose channels that they take statistics over, which changes the rest.
    """
    book = LabelBook(approximate=approximate)
    parameters: dict[str, Labels] = {}
    labels = propagate(model, book, parameters, model.graph.nodes)
    root = settle(book, factors_in(list(labels.values())))
    unit_of, reasons = _number_units(book, root, parameters)
    labels = {node: _units(value, unit_of) for node, value in labels.items()}
    axes, frozen = _parameter_axes(book, parameters, unit_of, reasons)
    frozen |= {place: f"is {model.untouched[place[0]]}" for place in frozen if place[0] in model.untouched}
    count = int(unit_of.max(initial=FROZEN)) + 1
    groups = _group(count, axes, labels)
    return ChannelGroups(count, groups, axes, labels, frozen, _norms(book, unit_of))


def propagate(
    model: TracedModel, book: LabelBook, parameters: dict[str, Labels], nodes: Iterable[fx.Node]
) -> dict[fx.Node, Any]:
    """Run the rules of nodes, in graph order, and return the labels of their outputs; the book and parameters grow."""
    labels: dict[fx.Node, Any] = {}
    storages: dict[Any, str] = {}
    for node in nodes:
        if node.op == "get_attr":
            labels[node] = _parameter(model, node, book, parameters, storages)
        elif node.op == "placeholder":
            labels[node] = Labels(_shape(value_of(node)))
        elif node.op == "call_function":
            labels[node] = _apply_rule(node, labels, book)
        elif node.op == "output":
            book.place = ""
            _freeze(book, node.args, labels, "is a model output")
    return labels


def _parameter(
    model: TracedModel, node: fx.Node, book: LabelBook, parameters: dict[str, Labels], storages: dict[Any, str]
) -> Labels:
    """Label a parameter's axes; tied parameters share theirs."""
    name = str(node.target)
    tensor = model.tensor(name)
    if not isinstance(tensor, torch.Tensor):
        return Labels(())
    owner = storages.setdefault(storage_key(tensor), name)
    if owner not in parameters:
        site = Site(node, tuple(tensor.shape), book)
        parameters[owner] = Labels(site.shape, site.fresh(site.shape).factors, weight=True)
        if name in model.untouched:
            book.place = ""
            layer = name.rpartition(".")[0] or name
            site.freeze_all(parameters[owner], f"goes with those of `{layer}`, which is {model.untouched[name]}")
    if not (tensor.is_floating_point() or tensor.is_complex()) and tensor.numel() <= LONGEST_INDEX:
        book.constants[name] = tensor.numpy()
    return parameters[owner]


def _apply_rule(node: fx.Node, labels: dict[fx.Node, Any], book: LabelBook) -> Any:
    """Return the labels of a call's output; without a rule its operands are frozen."""
    value = value_of(node)
    operator = operator_name(node.target)
    book.place = f"meets `{operator}` ({layer_name(node)}), which "
    shape = _shape(value)
    args = fx.map_arg(node.args, lambda arg: _argument(arg, labels, book, node))
    kwargs = fx.map_arg(node.kwargs, lambda arg: _argument(arg, labels, book, node))
    first = shape if not isinstance(value, (tuple, list)) else _shape(value[0]) if value else ()
    site = Site(node, first, book)
    try:
        result = _rule(operator)(site, *args, **kwargs)
    except Declined as reason:
        site.freeze_all([*args, *kwargs.values()], str(reason))
        result = None
    except UNFORESEEN as error:
        # To keep every channel is right whatever the call does; only the reason is poor.
        log.warning("%s: the rule of %s failed: %r", layer_name(node), operator, error)
        site.freeze_all([*args, *kwargs.values()], "is called in a way that its rule does not know")
        result = None
    return _checked(site, value, result)


def _rule(operator: str) -> Rule:
    """Return the rule of an operator.

    Raises:
        Declined: It has none.
    """
    own = rule_of(operator)
    if own is None:
        raise Declined("has no rule for channels yet")
    return own


def _checked(site: Site, value: Any, result: Any) -> Any:
    """Give every output labels of its own shape; an axis whose size is computed cannot shrink."""
    if isinstance(value, (tuple, list)):
        results = result if isinstance(result, tuple) else (None,) * len(value)
        return tuple(_checked(site, one, labels) for one, labels in zip(value, results, strict=True))
    if not isinstance(result, Labels):
        return Labels(_shape(value))
    factors = []
    for factor in result.factors:
        if not {axis for axis in factor.axes if axis in value.computed and not is_per_sample(value, axis)}:
            factors.append(factor)
        else:
            site.freeze(factor.labels, MERGES_BATCH)
    return Labels(_shape(value), tuple(factors), result.weight)


def _argument(arg: fx.Node, labels: dict[fx.Node, Any], book: LabelBook, reader: fx.Node) -> Any:
    """Return an argument's labels, or a number in place of a symbolic size.

    What works along axes sees those that hold the batch as well without their channels: these stay.
    """
    value, found = value_of(arg), labels.get(arg)
    if isinstance(value, int):
        return value
    if not isinstance(found, Labels) or operator_of(reader).rule in PER_SAMPLE:
        return found
    merged = [factor for factor in found.factors if value.computed & set(factor.axes)]
    for factor in merged:
        book.freeze(factor.labels, "meets channels on the axis of the batch")
    return replace(found, factors=tuple(factor for factor in found.factors if factor not in merged))


def _freeze(book: LabelBook, args: Any, labels: dict[fx.Node, Any], reason: str) -> None:
    """Freeze the labels of every node in a structure."""

    def visit(node: fx.Node) -> fx.Node:
        values = labels.get(node, ())
        for one in values if isinstance(values, tuple) else (values,):
            for factor in one.factors:
                book.freeze(factor.labels, reason)
        return node

    fx.map_arg(args, visit)


def _shape(value: Any) -> tuple[int, ...]:
    """Return a tensor's shape for one sample, and that of a number."""
    return sample_shape(value) if isinstance(value, Value) else ()


def _number_units(book: LabelBook, root: IntArray, parameters: Mapping[str, Labels]) -> tuple[IntArray, dict[int, str]]:
    """Return the unit of each label (FROZEN for those that stay), and why each frozen label stays."""
    components = int(root.max(initial=-1)) + 1
    reason_of = np.full(components, len(book.frozen), dtype=np.int64)
    for index in reversed(range(len(book.frozen))):
        reason_of[root[book.frozen[index][0]]] = index
    alive = reason_of == len(book.frozen)
    owned = np.zeros(components, dtype=bool)
    stored = np.zeros(book.size, dtype=bool)
    for factor in factors_in(list(parameters.values())):
        stored[factor.labels] = True
    for array in book.owned:
        owned[root[array[stored[array]]]] = True
    alive &= owned
    number = np.full(components, FROZEN, dtype=np.int64)
    number[alive] = np.arange(int(alive.sum()))
    label_reason = reason_of[root]
    texts = [*(reason for _, reason in book.frozen), "has no layer that produces it"]
    reasons = {int(label): texts[label_reason[label]] for label in np.flatnonzero(~alive[root])}
    return number[root], reasons


def _norms(book: LabelBook, unit_of: IntArray) -> tuple[ApproximateNorm, ...]:
    """Return the calls that take statistics over removable channels."""
    found = ((node, axis, unit_of[labels], outputs) for node, axis, labels, outputs in book.statistics)
    return tuple(ApproximateNorm(*norm) for norm in found if (norm[2] != FROZEN).any())


def _units(value: Any, unit_of: IntArray) -> Any:
    """Return labels with each label replaced by its unit."""
    if isinstance(value, tuple):
        return tuple(_units(one, unit_of) for one in value)
    return value.mapped(lambda array: unit_of[array])


def _parameter_axes(
    book: LabelBook, parameters: Mapping[str, Labels], unit_of: IntArray, reasons: Mapping[int, str]
) -> tuple[tuple[ParameterAxis, ...], dict[tuple[str, int], str]]:
    """Return the axes with removable channels, and why the others have none."""
    owned, read = (np.zeros(book.size, dtype=bool) for _ in range(2))
    for flags, arrays in ((owned, book.owned), (read, book.read)):
        for array in arrays:
            flags[array] = True
    axes, frozen = [], {}
    for name, labels in parameters.items():
        for factor in labels.factors:
            first, units = int(factor.labels[0]), unit_of[factor.labels]
            # A tied weight can own channels by an axis in one place and read them by it in another,
            # and a call can take a slice of it.
            both: tuple[tuple[Role, Any], ...] = (("owns", owned), ("reads", read))
            roles = [role for role, flag in both if flag[factor.labels].any()]
            if (units != FROZEN).any():
                follows: list[Role] = ["follows"]
                axes += [ParameterAxis(name, factor.axes[0], role, units) for role in roles or follows]
            elif roles:
                frozen[name, factor.axes[0]] = reasons[first]
    return tuple(axes), frozen


def _group(count: int, axes: tuple[ParameterAxis, ...], labels: Mapping[fx.Node, Any]) -> tuple[ChannelGroup, ...]:
    """Group the units that touch the same axes of parameters and activations equally often."""
    if not count:
        return ()
    signature = np.zeros(count, dtype=np.uint64)
    random = np.random.default_rng(0)
    arrays = [axis.units for axis in axes] + [factor.labels.reshape(-1) for factor in factors_in(list(labels.values()))]
    for units in {id(array): array for array in arrays}.values():
        touched = np.bincount(units[units != FROZEN], minlength=count).astype(np.uint64)
        signature += touched * random.integers(1, 2**63, dtype=np.uint64)
    weight = np.zeros(count, dtype=np.int64)
    name_of = np.full(count, len(axes), dtype=np.int64)
    for index, axis in reversed(list(enumerate(axes))):
        if axis.role == "owns":
            units = axis.units[axis.units != FROZEN]
            weight += np.bincount(units, minlength=count)
            name_of[units] = index
    _, members = np.unique(signature, return_inverse=True)
    order = np.argsort(members, kind="stable")
    bounds = np.flatnonzero(np.diff(members[order])) + 1
    parts = sorted(np.split(order, bounds), key=lambda units: int(units[0]))
    named = [axis.name for axis in axes]
    return tuple(ChannelGroup(_layer_of(named[name_of[units[0]]]), units, int(weight[units[0]])) for units in parts)


def _layer_of(parameter: str) -> str:
    """Return the layer that a parameter belongs to."""
    holder, _, leaf = parameter.rpartition(".")
    own = leaf.partition("_folded")[0]
    return holder if holder and own in ("weight", "weight_v", "original1", "in_proj_weight") else parameter
