"""Walk a graph node by node over several batches at once, holding only what is still to be read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from smartc.ir.traced_model import TracedModel, Value, value_of

Batches = Sequence[tuple[Any, ...]]


@dataclass(eq=False)
class ActivationWalk:
    """The values of each node, one per batch; the caller computes the nodes in graph order.

    Attributes:
        model: What to run, in evaluation mode.  Its tensors are read when a node needs them, so that a
            tensor set on the way takes effect from there on.
        batches: Flattened inputs, as ``TracedModel.run`` takes them.
        values: Per live node, its value for each batch.
    """

    model: TracedModel
    batches: Batches
    values: dict[fx.Node, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Take in the inputs.

        Raises:
            ValueError: A batch has another number of inputs than the model.
        """
        holders = [node for node in self.model.graph.nodes if node.op == "placeholder"]
        for batch in self.batches:
            if len(batch) != len(holders):
                raise ValueError(f"a batch has {len(batch)} inputs, and the model takes {len(holders)}")
        # An operator that writes in place must not reach the caller's tensors.
        copies = writes_in_place(self.model)
        for place, node in enumerate(holders):
            column = [batch[place] for batch in self.batches]
            self.values[node] = [v.clone() if copies and isinstance(v, torch.Tensor) else v for v in column]
        self._last = last_readers(self.model.graph)

    def compute(self, node: fx.Node) -> list[Any]:
        """Compute one call for every batch, keep the values and return them."""
        with torch.no_grad():
            self.values[node] = [self._call(node, place) for place in range(len(self.batches))]
        return self.values[node]

    def release(self, node: fx.Node) -> None:
        """Drop what no node after this one reads."""
        for dead in self._last.get(node, ()):
            self.values.pop(dead, None)

    def read(self, node: fx.Node, place: int) -> Any:
        """Return the value of a node for one batch; stored tensors are the same for all."""
        if node.op == "get_attr":
            return self.model.tensor(str(node.target))
        return self.values[node][place]

    def _call(self, node: fx.Node, place: int) -> Any:
        """Compute one call for one batch."""
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda argument: self.read(argument, place))
        return node.target(*args, **kwargs)  # type: ignore[operator]


def last_readers(graph: fx.Graph) -> dict[fx.Node, list[fx.Node]]:
    """Return, for each node, the nodes that nothing after it reads; itself where nothing reads it at all."""
    last: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        last[node] = node
        for source in node.all_input_nodes:
            last[source] = node
    dead: dict[fx.Node, list[fx.Node]] = {}
    for node, reader in last.items():
        dead.setdefault(reader, []).append(node)
    return dead


def writes_in_place(model: TracedModel) -> bool:
    """Return whether an operator overwrites a tensor."""
    return any(getattr(getattr(node.target, "_schema", None), "is_mutable", False) for node in model.calls())


def peak_bytes(model: TracedModel) -> int:
    """Return the bytes of activations that a walk holds at once per input, views counted as copies."""
    dead = last_readers(model.graph)
    live, peak = 0, 0
    for node in model.graph.nodes:
        live += _bytes(node)
        peak = max(peak, live)
        live -= sum(_bytes(gone) for gone in dead.get(node, ()))
    return peak


def _bytes(node: fx.Node) -> int:
    """Return the bytes of a node's output for one input."""
    if node.op not in ("call_function", "placeholder"):
        return 0
    values = [leaf for leaf in pytree.tree_leaves(value_of(node), is_leaf=_is_value) if _is_value(leaf)]
    return sum(math.prod(value.single) * value.dtype.itemsize for value in values)


def _is_value(leaf: Any) -> bool:
    """Return whether a leaf describes a tensor."""
    return isinstance(leaf, Value)
