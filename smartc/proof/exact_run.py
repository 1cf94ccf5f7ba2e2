"""A model run in float64 in little memory: each weight is cast when it is read, each value freed after its last use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from smartc.ir.traced_model import TracedModel
from smartc.proof.convolve_in_parts import ConvolveInParts

# Returns another value for a stored tensor, by its name; in float64.
Change = Callable[[str, torch.Tensor], torch.Tensor]


def run_exact(model: TracedModel, flat: tuple[Any, ...], change: Change | None = None) -> Any:
    """Return a model's outputs in float64.

    Args:
        model: In any type.
        flat: Flattened inputs, floats in float64.
        change: What stored tensors are changed by when they are read, if anything.
    """
    with torch.no_grad(), ConvolveInParts():
        if not _is_plain(model):
            return _changed(model, change).run(flat)
        # Types and literals as in float64, but no numbers: those are cast one by one.
        bare = model.with_tensors({name: tensor.to("meta") for name, tensor in _stored(model).items()})
        return _Run(bare.to(torch.float64), model, change)(flat)


def _stored(model: TracedModel) -> dict[str, torch.Tensor]:
    """Return the parameters and buffers that a model reads, detached; a copy has no others."""
    module = model.graph_module
    read = {str(node.target) for node in model.graph.nodes if node.op == "get_attr"}
    tensors: dict[str, torch.Tensor] = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: tensor.detach() for name, tensor in tensors.items() if name in read}


def _is_plain(model: TracedModel) -> bool:
    """Return whether a graph only calls operators that write into nothing."""
    calls = [node for node in model.graph.nodes if node.op not in ("placeholder", "get_attr", "output")]
    stored = _stored(model)
    reads = [str(node.target) in stored for node in model.graph.nodes if node.op == "get_attr"]
    return all(reads) and all(
        node.op == "call_function" and not getattr(getattr(node.target, "_schema", None), "is_mutable", False)
        for node in calls
    )


def _changed(model: TracedModel, change: Change | None) -> TracedModel:
    """Return a model in float64 whose stored tensors are changed."""
    exact = model.to(torch.float64)
    if change is None:
        return exact
    return exact.with_tensors({name: change(name, tensor) for name, tensor in _stored(exact).items()})


class _Run:
    """One run of a graph, node by node."""

    def __init__(self, bare: TracedModel, model: TracedModel, change: Change | None) -> None:
        self.graph = bare.graph
        self.kinds = {name: tensor.dtype for name, tensor in _stored(bare).items()}
        self.tensors = _stored(model)
        self.change = change
        self.values: dict[fx.Node, Any] = {}

    def __call__(self, flat: Sequence[Any]) -> Any:
        """Return the outputs, arranged as the model's."""
        given, last = iter(flat), last_readers(self.graph)
        for node in self.graph.nodes:
            if node.op == "output":
                return self.graph._codegen.process_outputs(self._read(node.args[0]))
            if node.op == "placeholder":
                self.values[node] = next(given)
            elif node.op == "call_function":
                self.values[node] = node.target(*self._read(node.args), **self._read(node.kwargs))
            for used in last.get(node, ()):
                self.values.pop(used, None)
        raise ValueError("the graph has no output")

    def _read(self, arguments: Any) -> Any:
        """Return arguments with values in the places of nodes."""
        return fx.node.map_arg(arguments, self._value)

    def _value(self, node: fx.Node) -> Any:
        """Return the value of a node; a stored tensor is cast each time that it is read."""
        if node.op != "get_attr":
            return self.values[node]
        name = str(node.target)
        tensor = self.tensors[name].to(self.kinds[name])
        return tensor if self.change is None else self.change(name, tensor)


def last_readers(graph: fx.Graph) -> Mapping[fx.Node, list[fx.Node]]:
    """Return, for each node, the values that nothing reads after it."""
    last: dict[fx.Node, list[fx.Node]] = {}
    seen: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        for used in (node, *node.all_input_nodes):
            if used not in seen:
                seen.add(used)
                last.setdefault(node, []).append(used)
    return last


def leaves(value: Any) -> list[Any]:
    """Return the leaves of any structure."""
    return pytree.tree_leaves(value)
