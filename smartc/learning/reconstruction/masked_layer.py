"""One layer to be refitted: its weight's rows, where they may differ from zero, and what takes a constant shift."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, fx

from smartc.ir.traced_model import TracedModel, argument_of, arguments_of, operator_of, stored_name
from smartc.learning.reconstruction.layer_rows import LayerRows
from smartc.learning.reconstruction.sample_rows import Rows
from smartc.learning.statistics.walk_activations import ActivationWalk


@dataclass(frozen=True, eq=False)
class MaskedLayer:
    """A layer seen as a matrix.

    Attributes:
        view: The matrix view.
        name: The weight's name.
        shape: The weight's shape.
        weight: Its rows, zero outside the support, shape (groups, out // groups, K).
        support: Which may differ from zero, the same shape.
        bias: What is added to the outputs, shape (groups, out // groups); None if nothing is.
        shift: The tensor that takes a constant shift of the outputs, its sign there; None if there is none.
    """

    view: LayerRows
    name: str
    shape: tuple[int, ...]
    weight: Tensor
    support: Tensor
    bias: Tensor | None
    shift: tuple[str, int] | None

    @classmethod
    def of(cls, walk: ActivationWalk, node: fx.Node, name: str, support: Tensor) -> MaskedLayer:
        """Return the layer that a call computes in a walk that has reached it."""
        weight = walk.model.tensor(name).detach()
        view = LayerRows.of(node, weight)
        rows, kept = view.weight_rows(weight), view.weight_rows(support.to(weight.device))
        place = _bias(node)
        bias = None if place is None else walk.read(place, 0).detach().reshape(rows.shape[:2])
        return cls(view, name, tuple(weight.shape), rows * kept, kept, bias, _shift(walk.model, node, place))

    def lacking(self, rows: Rows) -> Tensor:
        """Return the given outputs less the layer's, shape (groups, rows, out // groups)."""
        given = rows.inputs @ self.weight.to(rows.inputs).transpose(1, 2)
        if self.bias is not None:
            given = given + self.bias.to(given)[:, None]
        return rows.outputs - given

    def changed(self, model: TracedModel, change: Tensor) -> Mapping[str, Tensor]:
        """Return the tensors that have new values after a change (groups, out // groups, K + 1)."""
        rows = (self.weight.to(change) + change[..., :-1]) * self.support
        tensors = {self.name: self.view.weight_of(rows, self.shape).to(self.weight.dtype)}
        if self.shift is not None:
            name, sign = self.shift
            old = model.tensor(name).detach()
            tensors[name] = (old.to(change) + sign * change[..., -1].reshape(old.shape)).to(old.dtype)
        return tensors


def readers(model: TracedModel, name: str) -> int:
    """Return the number of calls that read a tensor under any of its names."""
    names = {name, *model.names_of(name)}
    return sum(len(node.users) for node in model.graph.nodes if node.op == "get_attr" and node.target in names)


def _bias(node: fx.Node) -> fx.Node | None:
    """Return the node that holds a layer's bias; products have none."""
    weight = operator_of(node).weight
    bias = None if weight is None or weight.bias is None else argument_of(node, weight.bias, "bias")
    return bias if isinstance(bias, fx.Node) else None


def _shift(model: TracedModel, node: fx.Node, bias: fx.Node | None) -> tuple[str, int] | None:
    """Return the tensor that takes a constant shift of a layer's outputs, and the sign: its bias, or a norm's mean."""
    if bias is not None:
        name = stored_name(bias)
        return (name, 1) if name is not None and _may_move(model, name) else None
    norm = next(iter(node.users)) if len(node.users) == 1 else None
    if norm is None or operator_of(norm).name != "batch_norm" or arguments_of(norm)[5]:
        return None
    if not operator_of(node).is_convolution and node.meta["value"].shape[1:-1]:
        return None
    mean = arguments_of(norm)[3]
    name = stored_name(mean) if isinstance(mean, fx.Node) else None
    return (name, -1) if name is not None and _may_move(model, name) else None


def _may_move(model: TracedModel, name: str) -> bool:
    """Return whether a tensor may have other values: nothing else reads it, and it is not to be left alone."""
    return readers(model, name) == 1 and name not in model.untouched
