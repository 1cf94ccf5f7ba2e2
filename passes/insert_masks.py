"""Masks in the graph: one pass multiplies weights by them, another takes them out again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import getitem
from typing import Any, ClassVar

import torch
from torch import fx, nn

from smartc.ir.traced_model import Remark, TracedModel, operator_of, value_of
from smartc.kernels.tensor_pool import MASK_POOL
from smartc.masks.layouts import Channels, MaskLayout
from smartc.masks.masked_weight import MaskedWeight
from smartc.masks.scaled_rows import Memory
from smartc.passes.shared.base import PassResult

# The module that the masks come from, in the masked graph.
MASKS = "smartc_masks"
_MASKED = "smartc_masked_"
_PARTS = "smartc_parts"


@dataclass(frozen=True, eq=False)
class InsertMasks:
    """Multiply weights by masks that a module computes.

    Attributes:
        weights: What is masked, in the order of the masks.
        masks: A module that takes the weights of ``measured`` and returns a flat mask over all units.
        measured: Names of the weights that the module takes.
    """

    weights: tuple[MaskedWeight, ...]
    masks: nn.Module
    measured: tuple[str, ...] = ()
    name: ClassVar[str] = "insert-masks"

    def run(self, model: TracedModel) -> PassResult:
        """Return the masked model: an ordinary module, whose other tensors are the model's own."""
        masked = model.copy()
        if not self.weights:
            return PassResult(masked.cleaned(), (Remark("masks", "there is nothing to mask"),))
        stored = _stored(masked)
        readers = {name: [user for node in stored[name] for user in node.users] for name in self._names()}
        order = {node: place for place, node in enumerate(masked.graph.nodes)}
        masked.graph_module.add_submodule(MASKS, self.masks)
        parts = _parts(masked, _mask(masked, self.measured), self.weights)
        tensors = {name: stored[name][0] for name in readers}
        for place, (weight, part) in enumerate(zip(self.weights, parts, strict=True)):
            first = min(readers[weight.name], key=order.__getitem__)
            layer = first if _is_layer(first, stored[weight.name]) and len(readers[weight.name]) == 1 else None
            with masked.graph.inserting_before(first):
                product = _Product(masked, f"{_MASKED}{place}", weight, part, layer)
                tensors[weight.name] = product.inserted(tensors[weight.name])
        for name, users in readers.items():
            for user in users:
                for node in stored[name]:
                    user.replace_input_with(node, tensors[name])
        done = [Remark(weight.name, f"masked by {weight.layout.count} units", changed=True) for weight in self.weights]
        return PassResult(masked.cleaned(), tuple(done))

    def _names(self) -> list[str]:
        """Return the names of the masked weights, each once."""
        return list(dict.fromkeys(weight.name for weight in self.weights))


@dataclass(frozen=True)
class RemoveMasks:
    """Take masks out of a graph again; weights keep what was learned, what the mask made zero included."""

    name: ClassVar[str] = "remove-masks"

    def run(self, model: TracedModel) -> PassResult:
        """Return the model without masks."""
        plain = model.copy()
        remarks = []
        for node in list(plain.graph.nodes):
            if node.op == "call_module" and str(node.target).startswith(_MASKED):
                node.replace_all_uses_with(node.args[0])
                plain.graph.erase_node(node)
                remarks.append(Remark(str(node.target), "removed", changed=True))
        masks = next((node for node in plain.graph.nodes if node.op == "call_module" and node.target == MASKS), None)
        if masks is not None:
            _erase(plain.graph, masks)
        return PassResult(plain.cleaned(), tuple(remarks))


class Parts(nn.Module):
    """Split a mask into those of the weights."""

    def __init__(self, counts: Sequence[int]) -> None:
        """Take the number of units of each weight."""
        super().__init__()
        self.counts = list(counts)

    def forward(self, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return each weight's part."""
        if torch.compiler.is_compiling() or not (torch.is_grad_enabled() and mask.requires_grad):
            return mask.split(self.counts)
        parts: tuple[torch.Tensor, ...] = _Split.apply(mask, self.counts)
        return parts


class _Split(torch.autograd.Function):
    """Split a tensor; its gradient, as long as all parts, is put where that of an earlier step was."""

    @staticmethod
    def forward(ctx: Any, whole: torch.Tensor, counts: list[int]) -> tuple[torch.Tensor, ...]:
        """Return the parts, views of the whole."""
        ctx.save_for_backward(whole)
        return whole.split(counts)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return the gradient of the whole."""
        (whole,) = ctx.saved_tensors
        plain = not torch.is_grad_enabled() and whole.dtype == gradients[0].dtype
        return torch.cat(gradients, out=MASK_POOL.empty_like(whole)) if plain else torch.cat(gradients), None


class MaskedBy(nn.Module):
    """Multiply a weight by the mask of its units."""

    def __init__(self, layout: MaskLayout, fresh_gradient: bool = False) -> None:
        """Take the layout of the units in the weight, and whether nothing else reads the product's gradient."""
        super().__init__()
        self.layout = layout
        self.memory = Memory(fresh_gradient)

    def forward(self, weight: torch.Tensor, mask: torch.Tensor, inputs: torch.Tensor | None = None) -> torch.Tensor:
        """Return the masked weight, given the mask of its units; the weight itself where its inputs are masked."""
        return weight if _is_smaller(inputs, weight) else self.layout.apply(weight, mask, self.memory)


class MaskedInputs(nn.Module):
    """Multiply what a layer reads by the mask of its channels, which is the same as to multiply its weight."""

    def __init__(self, layout: Channels) -> None:
        """Take the layout of the units in the weight."""
        super().__init__()
        self.layout = layout

    def forward(self, inputs: torch.Tensor, mask: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the masked inputs; the inputs themselves where the weight is masked."""
        return self.layout.apply_to_inputs(inputs, mask) if _is_smaller(inputs, weight) else inputs


def _is_smaller(inputs: torch.Tensor | None, weight: torch.Tensor) -> bool:
    """Return whether to multiply the inputs costs less than to multiply the weight."""
    return inputs is not None and inputs.numel() < weight.numel()


def _stored(model: TracedModel) -> dict[str, list[fx.Node]]:
    """Return the nodes that read each stored tensor."""
    found: dict[str, list[fx.Node]] = {}
    for node in model.graph.nodes:
        if node.op == "get_attr":
            found.setdefault(str(node.target), []).append(node)
    return found


def _mask(model: TracedModel, measured: tuple[str, ...]) -> fx.Node:
    """Insert the call that gives the flat mask, before anything is computed."""
    first = next(node for node in model.graph.nodes if node.op != "placeholder")
    with model.graph.inserting_before(first):
        weights = tuple(model.graph.get_attr(name) for name in measured)
        return model.graph.call_module(MASKS, weights)


def _parts(model: TracedModel, mask: fx.Node, weights: Sequence[MaskedWeight]) -> list[fx.Node]:
    """Return each weight's part of the flat mask; one split serves all: a slice's gradient is as long as the whole."""
    counts = [weight.layout.count for weight in weights]
    if all(weight.first == 0 for weight in weights):
        return [mask] * len(weights)
    model.graph_module.add_submodule(_PARTS, Parts(counts))
    with model.graph.inserting_after(mask):
        split = model.graph.call_module(_PARTS, (mask,))
    parts = []
    with model.graph.inserting_after(split):
        for place in reversed(range(len(counts))):
            parts.append(model.graph.call_function(getitem, (split, place)))
    return parts[::-1]


@dataclass(frozen=True)
class _Product:
    """A product of a weight and its mask, to be inserted where the graph says.

    Attributes:
        model: Where to insert.
        name: Of the module that multiplies.
        weight: What is masked.
        mask: The node of its part of the mask.
        layer: The one layer that reads the weight, and reads it as a layer does; None if there is no such.
    """

    model: TracedModel
    name: str
    weight: MaskedWeight
    mask: fx.Node
    layer: fx.Node | None

    def inserted(self, weight: fx.Node) -> fx.Node:
        """Insert the product with a weight that may have been masked already, and return its node."""
        layout, layer = self.weight.layout, self.layer
        operands = [weight, self.mask]
        if layer is not None and isinstance(layout, Channels) and layout.axis == _input_axis(layer):
            inputs = layer.args[0]
            assert isinstance(inputs, fx.Node)
            masked = self._call(f"{self.name}_inputs", MaskedInputs(layout), (inputs, self.mask, weight))
            layer.update_arg(0, masked)
            operands.append(inputs)
        return self._call(self.name, MaskedBy(layout, layer is not None), tuple(operands))

    def _call(self, name: str, module: nn.Module, operands: tuple[fx.Node, ...]) -> fx.Node:
        """Insert a module's call, whose result is of the kind of its first operand."""
        self.model.graph_module.add_submodule(name, module)
        node = self.model.graph.call_module(name, operands)
        node.meta["value"] = value_of(operands[0])
        return node


def _input_axis(node: fx.Node) -> int | None:
    """Return the axis of a layer's weight that its inputs meet; None where the node is no layer."""
    operator = operator_of(node)
    return operator.weight.input_axis if operator.weight is not None and operator.is_layer else None


def _is_layer(node: fx.Node, weight: list[fx.Node]) -> bool:
    """Return whether a node reads a weight as a layer does, and as nothing else."""
    return _input_axis(node) is not None and node.args[1] in weight and node.args[0] not in weight


def _erase(graph: fx.Graph, node: fx.Node) -> None:
    """Erase a node and all that read it."""
    for user in list(node.users):
        _erase(graph, user)
    graph.erase_node(node)
