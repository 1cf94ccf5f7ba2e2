"""Sizes that a program leaves free: the batch, and others such as an image's height or a text's length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from smartc.ir.free_axis import FreeAxis
from smartc.ir.traced_model import BATCH_PRIME, InputSpec, Remark, Value


@dataclass(frozen=True, eq=False)
class FreeSizes:
    """The symbols in the sizes of a program's tensors.

    Attributes:
        batch: The symbol of the first input's axis 0; None where the batch is fixed.
        known: The example's size for each other symbol; those that no input tells are missing, and stand with the
            batch.
        ranges: Of symbols and of what is computed from them, as the exporter has them.
        numbers: What stands for each expression, as it is found.
    """

    batch: Any
    known: Mapping[Any, int]
    ranges: Mapping[Any, Any]
    numbers: dict[Any, int] = field(default_factory=dict)

    @classmethod
    def of(cls, program: torch.export.ExportedProgram, inputs: Sequence[fx.Node]) -> FreeSizes:
        """Return those of a program whose inputs are some placeholders."""
        values = [node.meta.get("val") for node in inputs]
        sizes: list[Any] = [size for value in values if isinstance(value, torch.Tensor) for size in value.shape]
        first: list[Any] = [value.shape[0] for value in values if isinstance(value, torch.Tensor) and value.ndim]
        batch = next((size.node.expr for size in first if isinstance(size, torch.SymInt)), None)
        hints: dict[Any, int] = {}
        for size in sizes:
            if isinstance(size, torch.SymInt):
                hints |= size.node.shape_env.backed_var_to_val
        known = {symbol: int(hint) for symbol, hint in hints.items() if symbol.is_Symbol and symbol != batch}
        return cls(batch, known, program.range_constraints)

    def number(self, size: Any) -> int:
        """Return what stands for a size: the example's, with a prime in place of the batch."""
        if not isinstance(size, torch.SymInt):
            return int(size)
        expression = size.node.expr
        if expression not in self.numbers:
            stands = {symbol: self.known.get(symbol, BATCH_PRIME) for symbol in expression.free_symbols}
            self.numbers[expression] = int(expression.subs(stands))
        return self.numbers[expression]

    def is_batched(self, size: Any) -> bool:
        """Say whether a size depends on the batch, or on what no input tells."""
        return isinstance(size, torch.SymInt) and not size.node.expr.free_symbols <= self.known.keys()

    def value(self, leaf: Any) -> Any:
        """Return the shape and type of a fake tensor, the number of a size, and anything else as it is."""
        if isinstance(leaf, torch.SymInt):
            return self.number(leaf)
        if not isinstance(leaf, torch.Tensor):
            return leaf
        computed = frozenset(axis for axis, size in enumerate(leaf.shape) if isinstance(size, torch.SymInt))
        free = frozenset(axis for axis in computed if not self.is_batched(leaf.shape[axis]))
        return Value(tuple(map(self.number, leaf.shape)), leaf.dtype, computed, free)

    def note(self, graph_module: fx.GraphModule) -> None:
        """Replace what the exporter noted on each node by its shape and type, in regions of the forward, too."""
        graphs = [module.graph for module in graph_module.modules() if isinstance(module, fx.GraphModule)]
        for node in (node for graph in graphs for node in graph.nodes):
            node.meta["value"] = pytree.tree_map(self.value, node.meta.get("val"))
            for key in ("val", "tensor_meta", "from_node"):
                node.meta.pop(key, None)

    def input_spec(self, node: fx.Node) -> InputSpec:
        """Return the description of one graph input."""
        value = node.meta["val"]
        free = tuple(
            self._axis(axis, size)
            for axis, size in enumerate(value.shape)
            if isinstance(size, torch.SymInt) and not self.is_batched(size)
        )
        shape = tuple(None if self.is_batched(size) else self.number(size) for size in value.shape)
        return InputSpec(str(node.target), shape, value.dtype, free)

    def example(self, value: Any) -> Any:
        """Return a zero tensor of a fake one's shape, with a batch of 2."""
        if not isinstance(value, torch.Tensor):
            return value
        shape = [2 if self.is_batched(size) else self.number(size) for size in value.shape]
        return torch.zeros(shape, dtype=value.dtype)

    def _axis(self, axis: int, size: torch.SymInt) -> FreeAxis:
        """Return what the exporter says of a free axis."""
        span = self.ranges.get(size.node.expr)
        bounds = (None, None) if span is None else (_bound(span.lower), _bound(span.upper))
        return FreeAxis(axis, *bounds)


def _bound(limit: Any) -> int | None:
    """Return a bound of a size, None where there is none."""
    return int(limit) if limit.is_Integer else None


def told(inputs: Sequence[InputSpec]) -> tuple[Remark, ...]:
    """Return a remark on each axis but the batch's that is free: what it is priced at."""
    return tuple(
        Remark(spec.name, f"axis {free.axis} is free: priced and proved at the example's {spec.shape[free.axis]}")
        for spec in inputs
        for free in spec.free
    )
