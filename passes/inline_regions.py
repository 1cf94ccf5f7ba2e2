"""Inline regions without gradients or with another autocast, which the exporter keeps apart from the graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import getitem
from typing import Any, ClassVar

import torch
from torch import fx
from torch._subclasses import FakeTensorMode
from torch.utils._pytree import tree_map

from smartc.ir.traced_model import BATCH_PRIME, Remark, TracedModel, Value, arguments_of, value_of
from smartc.passes.shared.base import PassResult

# The place of the region among the arguments of the call that runs it; its own operands follow.
_REGIONS = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}
_GRADIENTS, _AUTOCAST = _REGIONS
# A difference that the user must hear of.
_OTHER_TYPES = "computes in the types of its parameters what autocast computes in"


@dataclass(frozen=True)
class InlineRegions:
    """Put the calls of ``with torch.no_grad()`` and ``with torch.autocast(...)`` regions in place of the regions.

    What leaves a region without gradients is detached, so that none flows into it.  Autocast concerns the types
    that products are computed in; smartc computes in the types of the parameters, and says so.
    """

    name: ClassVar[str] = "inline-regions"

    def run(self, model: TracedModel) -> PassResult:
        """Return the model as one graph."""
        flat = model.copy()
        remarks: list[Remark] = []
        while regions := [node for node in flat.calls() if _kind(node) in _REGIONS]:
            remarks += [_inline(flat, node) for node in regions]
        told = tuple(remark for remark in remarks if remark.text.startswith(_OTHER_TYPES))
        return PassResult(replace(flat.cleaned(), remarks=(*model.remarks, *told)), tuple(remarks))


def _kind(node: fx.Node) -> str:
    """Return the name of a call's operator, as higher-order operators have it."""
    return str(getattr(node.target, "__name__", ""))


def _inline(model: TracedModel, call: fx.Node) -> Remark:
    """Put the calls of a region in place of the call that runs it."""
    kind, arguments = _kind(call), arguments_of(call)
    region, *operands = arguments[_REGIONS[kind] :]
    detached = kind == _GRADIENTS and not arguments[0]
    with model.graph.inserting_before(call):
        outputs = _copied(model, region, operands)
        if detached:
            outputs = [_detached(model.graph, value) for value in outputs]
    for user in list(call.users):
        if user.target is getitem:
            user.replace_all_uses_with(outputs[arguments_of(user)[1]])
            model.graph.erase_node(user)
    if call.users:  # a region of one output that is not a tuple
        call.replace_all_uses_with(outputs[0])
    model.graph.erase_node(call)
    if kind == _AUTOCAST and arguments[2]:
        text = f"{_OTHER_TYPES} {_type_name(arguments[1])}"
        return Remark(model.name, text, changed=True)
    return Remark(model.name, "inlined a region without gradients" if detached else "inlined a region", changed=True)


def _copied(model: TracedModel, region: fx.Node, operands: list[Any]) -> list[Any]:
    """Copy the calls of a region into the graph around it, and return the values that it returns."""
    inner = model.graph_module.get_submodule(str(region.target))
    assert isinstance(inner, fx.GraphModule)
    known: dict[fx.Node, Any] = {}
    given = iter(operands)
    for node in inner.graph.nodes:
        if node.op == "placeholder":
            known[node] = next(given)
        elif node.op == "output":
            returned = fx.map_arg(node.args[0], known.__getitem__)
            return list(returned) if isinstance(returned, (tuple, list)) else [returned]
        else:
            known[node] = _copy(model.graph, node, known.__getitem__)
            if node.op == "get_attr":
                known[node].target = f"{region.target}.{node.target}"
    return []


def _copy(graph: fx.Graph, node: fx.Node, known: Callable[[fx.Node], Any]) -> fx.Node:
    """Return a copy of a call with what is known of it; the exporter notes not every value of a region."""
    copy = graph.node_copy(node, known)
    copy.meta = dict(node.meta)
    if copy.op == "call_function" and value_of(copy) is None:
        copy.meta["value"] = _computed(copy)
    return copy


def _computed(node: fx.Node) -> Any:
    """Return the types and shapes of what a call gives, from those of its operands."""
    with FakeTensorMode():
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda operand: tree_map(_fake, value_of(operand)))
        operator: Any = node.target
        return tree_map(_value, operator(*args, **kwargs))


def _fake(value: Any) -> Any:
    """Return a tensor without memory of a known shape."""
    return torch.empty(value.shape, dtype=value.dtype) if isinstance(value, Value) else value


def _value(result: Any) -> Any:
    """Return what is known of a tensor without memory: sizes with the prime of the batch depend on it."""
    if not isinstance(result, torch.Tensor):
        return result
    computed = frozenset(axis for axis, size in enumerate(result.shape) if size and size % BATCH_PRIME == 0)
    return Value(tuple(result.shape), result.dtype, computed)


def _detached(graph: fx.Graph, value: Any) -> Any:
    """Return a value that passes no gradient on; only numbers that have one need it."""
    known = value_of(value) if isinstance(value, fx.Node) else None
    if not isinstance(known, Value) or not known.dtype.is_floating_point:
        return value
    detached = graph.call_function(torch.ops.aten.detach.default, (value,))
    detached.meta = {**value.meta}
    return detached


def _type_name(dtype: Any) -> str:
    """Return the short name of an element type."""
    return str(dtype).removeprefix("torch.")
