"""Which layer of a model the time of a kernel belongs to, by the names that runtimes give."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import fx

from smartc.analysis.find_layers import Layers
from smartc.ir.operators.table import names_of_onnx
from smartc.ir.traced_model import layer_name, operator_name


@dataclass(frozen=True)
class LayerNames:
    """The rows of a report, by the names that kernels bear."""

    layers: Layers

    def times(
        self, spent: Mapping[str, Sequence[float]], *, by_node: bool
    ) -> tuple[dict[str, list[float]], list[float]]:
        """Return the seconds of each row in each run, and those that belong to none.

        Args:
            spent: Seconds of each run by ``layer/Operator#n``, as smartc names the nodes of an ONNX model,
                or by the layers of TVM's kernels.
            by_node: Which of the two.
        """
        runs = max((len(times) for times in spent.values()), default=0)
        found: dict[str, list[float]] = {}
        rest = [0.0] * runs
        for name, times in spent.items():
            row = self._row_of_node(name) if by_node else self._row_of_layer(name)
            total = rest if row is None else found.setdefault(row, [0.0] * runs)
            for run, seconds in enumerate(times):
                total[run] += seconds
        return found, rest

    def _row_of_node(self, name: str) -> str | None:
        """Return the row of a node of an ONNX model."""
        layer, _, operator = name.rpartition("/")
        operator, _, number = operator.partition("#")
        return self._choose(layer, names_of_onnx(operator), int(number or 1))

    def _row_of_layer(self, name: str) -> str | None:
        """Return the row of a layer as TVM's kernels are named."""
        exact = self._by_name.get(name)
        if exact:
            return exact[0][0]
        path, _, operator = name.rpartition(".")
        return self._choose(path, (re.sub(r"_\d+$", "", operator),), 1)

    def _choose(self, path: str, operators: Sequence[str], number: int) -> str | None:
        """Return the row of the n-th call of an operator in a module; of another operator there if it has none."""
        rows = self._by_path.get(path) or self._by_name.get(path) or []
        alike = [row for row, operator in rows if operator in operators]
        if alike:
            return alike[min(number, len(alike)) - 1]
        # What the network itself does beside its modules is no layer.
        return rows[0][0] if rows and path else None

    @cached_property
    def _calls(self) -> list[tuple[str, fx.Node, str]]:
        """Return every call with the row that it belongs to and the operator of that, each row's own call first."""
        own = [(row.name, row.node, row.op) for row in self.layers.rows]
        fused = [(row.name, node) for row in self.layers.rows for node in row.fused]
        return own + [(name, node, operator_name(node.target)) for name, node in fused]

    @cached_property
    def _by_name(self) -> dict[str, list[tuple[str, str]]]:
        """Return rows and operators by the user's name of a call."""
        found: dict[str, list[tuple[str, str]]] = {}
        for row, node, operator in self._calls:
            found.setdefault(layer_name(node), []).append((row, operator))
        return found

    @cached_property
    def _by_path(self) -> dict[str, list[tuple[str, str]]]:
        """Return rows and operators by the module that a call is in."""
        found: dict[str, list[tuple[str, str]]] = {}
        for row, node, operator in self._calls:
            stack = node.meta.get("nn_module_stack") or {}
            path = next(reversed(stack.values()), ("", ""))[0]
            found.setdefault(path, []).append((row, operator))
        return found
