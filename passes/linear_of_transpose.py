"""Read a product with a transposed parameter as the linear layer that it is: ``x @ W.T`` is ``linear(x, W)``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import fx

from smartc.ir.traced_model import Remark, TracedModel, argument_of, layer_name, operator_of, value_of
from smartc.passes.shared.base import PassResult

aten = torch.ops.aten


@dataclass(frozen=True)
class LinearOfTranspose:
    """Replace ``matmul(x, W.T)`` and ``addmm(b, x, W.T)`` by a linear layer, so that the layer has a weight of its own.

    PyTorch computes a linear layer by these very calls.
    """

    name: ClassVar[str] = "linear-of-transpose"

    def run(self, model: TracedModel) -> PassResult:
        """Return the model with its linear layers as such."""
        plain = model.copy()
        remarks = [_replace(plain, node) for node in list(plain.calls())]
        return PassResult(plain.cleaned(), tuple(remark for remark in remarks if remark))


def _replace(model: TracedModel, node: fx.Node) -> Remark | None:
    """Put a linear layer in a product's place, if it is one."""
    operator = operator_of(node)
    if operator.rule not in ("product", "added_product") or operator.weight is None:
        return None
    weight = _transposed(argument_of(node, operator.weight.place, operator.weight.name))
    source = argument_of(node, operator.weight.source, "mat1" if operator.rule == "added_product" else "self")
    if weight is None or not isinstance(source, fx.Node) or len(value_of(source).shape) < 2:
        return None
    arguments = [source, weight]
    if operator.rule == "added_product":
        added = argument_of(node, 0, "self")
        if not _is_bias(added, weight) or any(node.kwargs.get(scale, 1) != 1 for scale in ("beta", "alpha")):
            return None
        arguments.append(added)
    with model.graph.inserting_before(node):
        layer = model.graph.create_node("call_function", aten.linear.default, tuple(arguments), name="linear")
    layer.meta = dict(node.meta)
    node.replace_all_uses_with(layer)
    return Remark(layer_name(node), "is a linear layer with its weight transposed", changed=True)


def _transposed(node: Any) -> fx.Node | None:
    """Return the stored matrix that a node is the transpose of, if it is one."""
    if not isinstance(node, fx.Node) or operator_of(node).rule not in ("transpose", "matrix_transpose", "permute"):
        return None
    source = node.args[0]
    if not isinstance(source, fx.Node) or source.op != "get_attr" or len(value_of(source).shape) != 2:
        return None
    axes = {"transpose": node.args[1:3], "permute": node.args[1] if len(node.args) > 1 else ()}
    given = tuple(axis % 2 for axis in axes.get(operator_of(node).rule, (0, 1)))  # type: ignore[operator, union-attr]
    moved = given == (1, 0) if operator_of(node).rule == "permute" else set(given) == {0, 1}
    return source if moved else None


def _is_bias(added: Any, weight: fx.Node) -> bool:
    """Return whether what is added is one number for each output."""
    return isinstance(added, fx.Node) and tuple(value_of(added).shape) == tuple(value_of(weight).shape[:1])
