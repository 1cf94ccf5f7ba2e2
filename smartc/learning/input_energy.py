"""The mean square of what each input channel of a weight sees, from a few samples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import fx

from smartc.model import TracedModel, arguments_of, operator_name
from smartc.passes.pack_blocks import CONVOLUTIONS, TRANSPOSED, weight_use


def input_energy(model: TracedModel, batches: Iterable[tuple[Any, ...]]) -> dict[str, torch.Tensor]:
    """Return for each weight that multiplies activations the mean square of these per input channel.

    Args:
        model: In eval mode.
        batches: Flattened inputs.

    Returns:
        By the weight's name; shape (in,), all groups of a convolution in order.
    """
    recorder = _Recorder(model)
    for flat in batches:
        with torch.no_grad():
            recorder.run(*flat, enable_io_processing=False)
    return {name: (total / max(recorder.counts[name], 1)).float() for name, total in recorder.totals.items()}


class _Recorder(fx.Interpreter):
    """Runs a graph and adds up squares at the inputs of its weights."""

    def __init__(self, model: TracedModel) -> None:
        """Find the calls to record."""
        super().__init__(model.graph_module)
        found = {node: weight_use(model, node) for node in model.calls()}
        self.uses = {node: use for node, use in found.items() if use is not None}
        self.totals: dict[str, torch.Tensor] = {}
        self.counts: dict[str, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run a call, and record it if it multiplies by a weight."""
        use = self.uses.get(n)
        if use is not None:
            source = next(arg for arg in arguments_of(n) if isinstance(arg, fx.Node) and arg.op != "get_attr")
            value = self.env[source].detach()
            spatial = operator_name(n.target) in CONVOLUTIONS | TRANSPOSED
            axis = 1 if spatial else value.ndim - 1
            squares = value.double().square().movedim(axis, 0).reshape(value.shape[axis], -1)
            self.totals[use.name] = self.totals.get(use.name, 0) + squares.sum(1)
            self.counts[use.name] = self.counts.get(use.name, 0) + squares.shape[1]
        return super().run_node(n)
