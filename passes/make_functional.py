"""Replace in-place operators by functional ones, so that each value has one definition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import fx

from smartc.ir.traced_model import Remark, TracedModel, arguments_of, layer_name, operator_name, operator_of
from smartc.passes.shared.base import PassResult

aten = torch.ops.aten
_SCATTERS: dict[Any, Any] = {
    aten.slice.Tensor: aten.slice_scatter.default,
    aten.select.int: aten.select_scatter.default,
}
# What may return its input or a part of it, though the schema does not say so, as dropout does.  It is a flaw of
# schemas that nothing else meets, and says nothing of what the operators are.
_UNDECLARED = ("getitem", "type_as", "atleast_1d", "atleast_2d", "atleast_3d")


@dataclass(frozen=True)
class MakeFunctional:
    """Turn ``relu_(x)`` into ``relu(x)`` where no view of ``x`` would show the difference."""

    name: ClassVar[str] = "make-functional"

    def run(self, model: TracedModel) -> PassResult:
        """Return the model with as few in-place operators as can be proved safe."""
        functional = model.copy()
        order = {node: place for place, node in enumerate(functional.graph.nodes)}
        remarks = [_replace(node, order) for node in list(functional.calls()) if _is_in_place(node)]
        return PassResult(functional.cleaned(), tuple(remarks))


def _is_in_place(node: fx.Node) -> bool:
    """Return whether an operator writes to its first argument."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.arguments:
        return False
    alias = schema.arguments[0].alias_info
    return alias is not None and alias.is_write


def _replace(node: fx.Node, order: dict[fx.Node, int]) -> Remark:
    """Replace one in-place call, or say why not."""
    place = layer_name(node)
    target = _functional(node.target)
    source = arguments_of(node)[0]
    if target is None or not isinstance(source, fx.Node):
        return Remark(place, f"{operator_name(node.target)} has no functional form and stays")
    if parts := _parts(source):
        return _write_part(node, parts, target, order)
    if _seen_elsewhere(source, node, order):
        return Remark(place, f"{operator_name(node.target)} writes through a view that is read later and stays")
    later = [user for user in source.users if order[user] > order[node]]
    node.target = target
    for user in later:
        user.replace_input_with(source, node)
    return Remark(place, f"made {operator_name(target)} functional", changed=True)


def _parts(source: fx.Node) -> list[fx.Node]:
    """Return the slices and selections of a tensor that lead to what is written to, the innermost first.

    There are none where it is no part, or where the tensor is not one that the graph computes.
    """
    parts = []
    while source.op == "call_function" and source.target in _SCATTERS:
        parts.append(source)
        source = arguments_of(source)[0]
    return parts if source.op == "call_function" and not _may_alias(source) else []


def _write_part(node: fx.Node, parts: list[fx.Node], target: Any, order: dict[fx.Node, int]) -> Remark:
    """Replace a write to a part of a tensor by a new tensor that has the part, or say why not."""
    whole = arguments_of(parts[-1])[0]
    views = _views(whole, node, order) - {whole}
    if any(order[user] > order[node] for view in views for user in view.users):
        return Remark(layer_name(node), f"{operator_name(node.target)} writes to a part that is read later and stays")
    later = [user for user in whole.users if order[user] > order[node]]
    node.target = target
    written = node
    for part in parts:
        holder = arguments_of(part)[0]
        with node.graph.inserting_after(written):
            arguments = (holder, written, *part.args[1:])
            written = node.graph.call_function(_SCATTERS[part.target], arguments, part.kwargs)
        written.meta, order[written] = dict(holder.meta), order[node]
    for user in later:
        user.replace_input_with(whole, written)
    return Remark(layer_name(node), f"made {operator_name(target)} of a part functional", changed=True)


def _may_alias(node: fx.Node) -> bool:
    """Return whether a call's output can share storage with its first argument."""
    if node.op != "call_function":
        return False
    schema = getattr(node.target, "_schema", None)
    declared = schema is not None and schema.arguments and schema.arguments[0].alias_info is not None
    operator = operator_of(node)
    return bool(declared) or operator.family == "dropout" or operator.name in _UNDECLARED


def _functional(target: Any) -> Callable[..., Any] | None:
    """Return the operator without the trailing underscore and with the same overload."""
    packet = getattr(aten, operator_name(target).removesuffix("_"), None)
    return getattr(packet, target._overloadname, None) if packet is not None else None


def _seen_elsewhere(source: fx.Node, write: fx.Node, order: dict[fx.Node, int]) -> bool:
    """Return whether another name of the same storage is read after the write, or is not ours."""
    root = source
    while _may_alias(root) and isinstance(root.args[0], fx.Node):
        root = root.args[0]
    if root.op == "get_attr":
        return True
    aliases = _views(root, write, order)
    return any(order[user] > order[write] for alias in aliases - {source} for user in alias.users)


def _views(root: fx.Node, write: fx.Node, order: dict[fx.Node, int]) -> set[fx.Node]:
    """Return a tensor and the calls before a write that may share its storage."""
    aliases, todo = {root}, [root]
    while todo:
        views = {user for user in todo.pop().users if _may_alias(user) and order[user] < order[write]}
        todo += views - aliases
        aliases |= views
    return aliases
