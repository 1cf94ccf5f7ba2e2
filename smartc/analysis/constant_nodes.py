"""The values of a graph that parameters, buffers and literals alone compute, the same in every run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import getitem

import torch
from torch import fx

from smartc.ir.traced_model import TracedModel, argument_of, operator_of, storage_key

# Operators of others may draw numbers without a word.
_KNOWN = ("aten", "prims")
# What a call is told of training by.
_FLAGS = ("training", "train", "use_input_stats")


def constant_nodes(model: TracedModel) -> set[fx.Node]:
    """Return the nodes without an input, a random number or a written tensor behind them, stored tensors included."""
    written = _written(model)
    found: set[fx.Node] = set()
    for node in model.graph.nodes:
        if node in written or any(source not in found for source in node.all_input_nodes):
            continue
        is_tensor = node.op == "get_attr" and isinstance(model.tensor(str(node.target)), torch.Tensor)
        if is_tensor or (node.op == "call_function" and _repeats(node)):
            found.add(node)
    return found


def ancestors(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """Return some nodes and all that they are computed from."""
    found, todo = set(nodes), list(nodes)
    while todo:
        sources = set(todo.pop().all_input_nodes) - found
        found |= sources
        todo += sources
    return found


def _written(model: TracedModel) -> set[fx.Node]:
    """Return what some call writes to: its operand, all that this may be a view of, and other names of these."""
    touched = ancestors([operand for node in model.calls() for operand in _overwritten(node)])
    stored = [node for node in model.graph.nodes if node.op == "get_attr"]
    tensors = {node: tensor for node in stored if isinstance(tensor := model.tensor(str(node.target)), torch.Tensor)}
    keys = {storage_key(tensors[node])[0] for node in touched if node in tensors}
    return touched | {node for node, tensor in tensors.items() if storage_key(tensor)[0] in keys}


def _overwritten(node: fx.Node) -> Iterator[fx.Node]:
    """Yield the operands that a call writes to."""
    for place, argument in enumerate(_arguments(node)):
        declared = argument.alias_info is not None and argument.alias_info.is_write
        if declared or (argument.name in ("running_mean", "running_var") and _in_training(node)):
            value = argument_of(node, place, argument.name)
            yield from (one for one in (value if isinstance(value, (list, tuple)) else (value,)) if _is_node(one))


def _repeats(node: fx.Node) -> bool:
    """Return whether a call gives the same for the same operands, and does nothing else."""
    if node.target is getitem:
        return True
    target, operator = node.target, operator_of(node)
    if not isinstance(target, torch._ops.OpOverload) or target._schema.is_mutable or "empty" in operator.name:
        return False
    if target.namespace not in _KNOWN:
        return False
    if operator.in_training == "random" and any(argument.name in _FLAGS for argument in _arguments(node)):
        return not _in_training(node)
    return torch.Tag.nondeterministic_seeded not in target.tags and not list(_overwritten(node))


def _in_training(node: fx.Node) -> bool:
    """Return whether a call is told that it is in training."""
    flags = ((place, one) for place, one in enumerate(_arguments(node)) if one.name in _FLAGS)
    return any(argument_of(node, place, flag.name, flag.default_value) for place, flag in flags)


def _arguments(node: fx.Node) -> tuple[torch.Argument, ...]:
    """Return the declared arguments of a call."""
    schema = getattr(node.target, "_schema", None)
    return () if schema is None else tuple(schema.arguments)


def _is_node(value: object) -> bool:
    """Return whether an argument is computed in the graph."""
    return isinstance(value, fx.Node)
