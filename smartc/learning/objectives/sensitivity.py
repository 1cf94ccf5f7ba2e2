"""Sensitivity of a model's outputs to each unit: what its absence would do to them, to the second order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from smartc.ir.traced_model import TracedModel
from smartc.learning.objectives.distillation import Distillation
from smartc.learning.statistics.input_energy import InputRecorder
from smartc.masks.units import FloatArray, Units

# Answers that are drawn for each sample: the outputs' own probabilities stand for labels.
DRAWS = 2
SEED = 0
Batches = Iterable[tuple[Any, ...]]


def sensitivity(
    model: TracedModel, units: Units, distillation: Distillation, recorder: InputRecorder, batches: Batches
) -> FloatArray:
    """Return the sensitivity to each unit: the mean square of the change of one sample's loss when it goes.

    The loss is that of answers drawn from the model's own outputs, whose mean squared gradient is the
    curvature of the distance to these outputs (the Fisher information).  What a unit adds on average over
    the samples does not count: a bias or a batch norm takes that up.

    Args:
        model: In eval mode.
        units: What may be removed.
        distillation: Tells which outputs are logits, and the scales of the others.
        recorder: Knows the means of what the weights see.
        batches: Flattened inputs, one sample each.

    Source: the Fisher information as a measure of saliency, arXiv 1801.05787; without the mean, ours.
    """
    probe = _Probe(model, recorder, units, distillation)
    total, count = torch.zeros(units.count, dtype=torch.float64), 0
    for flat in batches:
        for _ in range(DRAWS):
            total += probe.effects(flat).square()
            count += 1
    mean: FloatArray = (total / max(count, 1)).numpy()
    return mean


class _Probe(fx.Interpreter):
    """Runs a graph in which every layer that multiplies by a weight gets a bias more, whose gradient tells."""

    def __init__(self, model: TracedModel, recorder: InputRecorder, units: Units, distillation: Distillation) -> None:
        """Take the means of the inputs of the weights."""
        super().__init__(model.graph_module)
        self.units, self.distillation, self.recorder = units, distillation, recorder
        self.weights = {weight.name: model.tensor(weight.name) for weight in units.weights}
        self.transposed = {call.use.name: call.use.transposed for call in recorder.calls.values()}
        self.shifts: dict[str, Tensor] = {}
        self.generator = torch.Generator().manual_seed(SEED)

    def run_node(self, n: fx.Node) -> Any:
        """Run a call, and add the shift of its weight."""
        result = super().run_node(n)
        call = self.recorder.calls.get(n)
        if call is None or call.use.name not in self.weights:
            return result
        behind, name = call.rank - 2, call.use.name
        if name not in self.shifts:
            self.shifts[name] = result.new_zeros(result.shape[-1 - behind]).requires_grad_()
        return result + self.shifts[name].reshape(-1, *[1] * behind)

    def effects(self, flat: tuple[Any, ...]) -> Tensor:
        """Return the first-order change of one drawn answer's loss by each unit, shape (units,), float64."""
        self.shifts = {}
        wanted = [weight.requires_grad for weight in self.weights.values()]
        try:
            for weight in self.weights.values():
                weight.requires_grad_()
            with torch.enable_grad():
                outputs = pytree.tree_leaves(self.run(*flat, enable_io_processing=False))
                return self._effects(*self._answers(outputs))
        finally:
            for weight, before in zip(self.weights.values(), wanted, strict=True):
                weight.requires_grad_(before)

    def _answers(self, outputs: list[Any]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the outputs that can be imitated, and the gradients that drawn answers give them."""
        found, gradients = [], []
        places = zip(outputs, self.distillation.axes, self.distillation.scales, strict=True)
        for output, axis, scale in places:
            if not isinstance(output, Tensor) or not output.requires_grad:
                continue
            found.append(output)
            value = output.detach()
            if axis is None:
                noise = torch.randn(value.shape, generator=self.generator).to(value)
                gradients.append(noise / (scale * value.numel()) ** 0.5)
            else:
                gradients.append(self._drawn_class(value.movedim(axis, -1)).movedim(-1, axis))
        return found, gradients

    def _drawn_class(self, logits: Tensor) -> Tensor:
        """Return the gradient of the cross-entropy with classes drawn from the softmax over the last axis."""
        shares = logits.float().softmax(-1).nan_to_num()
        rows = shares.reshape(-1, shares.shape[-1]).cpu()
        drawn = torch.multinomial(rows + torch.finfo(rows.dtype).tiny, 1, generator=self.generator).to(shares.device)
        gradient = shares.reshape(rows.shape).scatter_add(1, drawn, -torch.ones_like(drawn, dtype=shares.dtype))
        return (gradient.reshape(shares.shape) / len(rows) ** 0.5).to(logits)

    def _effects(self, outputs: list[Tensor], gradients: list[Tensor]) -> Tensor:
        """Return the effects for gradients at the outputs."""
        total = torch.zeros(self.units.count, dtype=torch.float64)
        wanted = [*self.weights.values(), *self.shifts.values()]
        if not outputs or not wanted:
            return total
        found = torch.autograd.grad(outputs, wanted, gradients, allow_unused=True)
        sensitivity = dict(zip(self.weights, found, strict=False))
        shifted = dict(zip(self.shifts, found[len(self.weights) :], strict=True))
        for weight in self.units.weights:
            gradient = sensitivity[weight.name]
            if gradient is not None:
                varying = gradient - self._constant_part(weight.name, gradient, shifted.get(weight.name))
                values = self.weights[weight.name].detach() * varying
                total[weight.part] += weight.layout.sums(values.double()).cpu()
        return total

    def _constant_part(self, name: str, gradient: Tensor, shifted: Tensor | None) -> Tensor:
        """Return the part of a weight's gradient that the mean of its inputs causes; zero where that is not known."""
        mean = self.recorder.mean(name)
        if mean is None or shifted is None or gradient.ndim < 2:
            return torch.zeros_like(gradient)
        outs, ins = (1, 0) if self.transposed[name] else (0, 1)
        if gradient.shape[ins] != len(mean) or gradient.shape[outs] != len(shifted):
            return torch.zeros_like(gradient)  # groups: the inputs are not in the order of one axis
        shapes = [[-1 if axis == own else 1 for axis in range(gradient.ndim)] for own in (ins, outs)]
        return mean.to(gradient).reshape(shapes[0]) * shifted.reshape(shapes[1])
