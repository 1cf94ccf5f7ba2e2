"""The mean square of what each input channel of a weight sees, from a few samples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import fx

from smartc.model import TracedModel, arguments_of, operator_name
from smartc.passes.pack_blocks import PRODUCTS, WeightUse, weight_use


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
        self.sources: dict[fx.Node, tuple[WeightUse, fx.Node, int]] = {}
        for node in model.calls():
            use, source = weight_use(model, node), _source(node)
            if use is not None and source is not None:
                self.sources[node] = use, source, model.tensor(use.name).ndim
        self.totals: dict[str, torch.Tensor] = {}
        self.counts: dict[str, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run a call, and record it if it multiplies by a weight."""
        if n in self.sources:
            use, source, rank = self.sources[n]
            # A convolution's kernel has as many axes as its input has behind the channels.
            squares = self.env[source].detach().double().square().movedim(1 - rank, 0)
            self.totals[use.name] = self.totals.get(use.name, 0) + squares.reshape(len(squares), -1).sum(1)
            self.counts[use.name] = self.counts.get(use.name, 0) + squares[0].numel()
        return super().run_node(n)


def _source(node: fx.Node) -> fx.Node | None:
    """Return what a call multiplies by a weight; None where that is stored, too."""
    # It stands before the weight, which comes second but in a product that something is added to.
    place = PRODUCTS.get(operator_name(node.target), 1) - 1
    source = arguments_of(node)[place] if len(node.args) > place else None
    return source if isinstance(source, fx.Node) and source.op != "get_attr" else None
