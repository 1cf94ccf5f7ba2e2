"""The variance of what each input channel of a weight sees, from a few samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from smartc.analysis.weight_use import WeightUse, weight_use
from smartc.ir.traced_model import TracedModel, arguments_of, operator_of

# The share of a constant input's square that counts.
CONSTANT = 0.02


def input_energy(model: TracedModel, batches: Iterable[tuple[Any, ...]]) -> dict[str, torch.Tensor]:
    """Return the variance per input channel of the activations that each weight multiplies.

    What does not vary adds a constant to the layer's outputs, which a bias or a batch norm takes up; it
    counts for ``CONSTANT`` of its square, as padding and what has no bias do not.

    Args:
        model: In eval mode.
        batches: Flattened inputs.

    Returns:
        By the weight's name; shape (in,), all groups of a convolution in order.
    """
    return recorded(model, batches).energies()


def recorded(model: TracedModel, batches: Iterable[tuple[Any, ...]]) -> InputRecorder:
    """Return the statistics of what a model's weights see on flattened inputs."""
    recorder = InputRecorder(model)
    for flat in batches:
        recorder.record(flat)
    return recorder


def weighted_squares(model: TracedModel, name: str, variances: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return a weight's squares in float64, each times the variance of its input where that is known.

    The inputs of a grouped convolution are not in the order of one axis: there the squares stay alone.
    """
    squares = model.tensor(name).detach().double().square()
    inputs = variances.get(name)
    if inputs is None or squares.ndim < 2 or len(inputs) != squares.shape[1]:
        return squares
    return squares * inputs.double().reshape(1, -1, *[1] * (squares.ndim - 2))


@dataclass(frozen=True)
class Multiplication:
    """A call that multiplies activations by a weight: which, what node gives the activations, and the weight's rank."""

    use: WeightUse
    source: fx.Node
    rank: int


class InputRecorder(fx.Interpreter):
    """Runs a graph and adds up values and squares at the inputs of its weights.

    Attributes:
        calls: What multiplies activations by a weight.
    """

    def __init__(self, model: TracedModel) -> None:
        """Find the calls to record."""
        super().__init__(model.graph_module)
        self.calls: dict[fx.Node, Multiplication] = {}
        for node in model.calls():
            use, source = weight_use(model, node), _source(node)
            if use is not None and source is not None:
                self.calls[node] = Multiplication(use, source, model.tensor(use.name).ndim)
        self.totals: dict[str, tuple[Any, Any]] = {}
        self.counts: dict[str, int] = {}

    def record(self, flat: tuple[Any, ...]) -> None:
        """Run flattened inputs."""
        with torch.no_grad():
            self.run(*flat, enable_io_processing=False)

    def mean(self, name: str) -> torch.Tensor | None:
        """Return the mean of each input channel of a weight, float64; None where nothing was recorded."""
        return self.totals[name][0] / self.counts[name] if name in self.totals else None

    def energies(self) -> dict[str, torch.Tensor]:
        """Return the variances by weight, as ``input_energy`` does."""
        energies = {}
        for name, (total, squares) in self.totals.items():
            mean, square = total / self.counts[name], squares / self.counts[name]
            energies[name] = (square - (1 - CONSTANT) * mean.square()).clamp_min(0).float()
        return energies

    def run_node(self, n: fx.Node) -> Any:
        """Run a call, and record it if it multiplies by a weight."""
        if n in self.calls:
            call = self.calls[n]
            name = call.use.name
            # A convolution's kernel has as many axes as its input has behind the channels.
            values = self.env[call.source].detach().double().movedim(1 - call.rank, 0)
            rows = values.reshape(len(values), -1)
            total, squares = self.totals.get(name, (0.0, 0.0))
            self.totals[name] = (total + rows.sum(1), squares + rows.square().sum(1))
            self.counts[name] = self.counts.get(name, 0) + rows.shape[1]
        return super().run_node(n)


def _source(node: fx.Node) -> fx.Node | None:
    """Return the operand that a call multiplies by a weight; None where that is stored, too."""
    weight = operator_of(node).weight
    source = arguments_of(node)[weight.source] if weight is not None and len(node.args) > weight.source else None
    return source if isinstance(source, fx.Node) and source.op != "get_attr" else None
