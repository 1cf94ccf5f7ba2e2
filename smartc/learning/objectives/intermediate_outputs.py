"""Run a graph and keep what its layers give, so that a student can be compared with its teacher at each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn


class WithIntermediateOutputs(nn.Module):
    """A graph that also returns the values of some of its nodes.

    Called with flattened inputs, returns the flattened outputs and the values of the nodes by name.
    """

    def __init__(self, module: fx.GraphModule, names: Sequence[str]) -> None:
        """Take the graph and the names of its nodes."""
        super().__init__()
        self.module = module
        self.names = frozenset(names)

    def forward(self, *flat: Any) -> tuple[Any, dict[str, torch.Tensor]]:
        """Run the graph."""
        run = _Run(self.module, self.names)
        outputs = run.run(*flat, enable_io_processing=False)
        return outputs, run.kept


class _Run(fx.Interpreter):
    """One run of a graph that keeps some values."""

    def __init__(self, module: fx.GraphModule, names: frozenset[str]) -> None:
        """Keep nothing yet."""
        super().__init__(module)
        self.names = names
        self.kept: dict[str, torch.Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run a node, and keep its value if it is asked for."""
        value = super().run_node(n)
        if n.name in self.names:
            self.kept[n.name] = value
        return value
