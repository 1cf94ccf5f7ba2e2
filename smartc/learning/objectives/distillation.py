"""Learn from a teacher's outputs: the dense model is the only label that is needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from smartc.core.errors import UserError
from smartc.ir.traced_model import TracedModel, Value, value_of
from smartc.learning.objectives.logit_axis import logit_axis

TEMPERATURE = 2.0
# Softmax ignores a constant shift, and what looks like logits may be an embedding or an image: the squared
# error keeps both in place, and weighs little beside the divergence of real logits.
SQUARED_ERROR_SHARE = 0.1
# Share of the mean square that a variance counts for at least, for outputs that hardly vary.
LEAST_VARIANCE = 1e-3
# Stands for an infinite logit: its probability is 0 all the same, and 0 times it is no NaN.
LARGEST_LOGIT = 1e6


@dataclass(frozen=True)
class Distillation:
    """The distance between a student's outputs and its teacher's.

    Attributes:
        axes: For each flattened output the axis of its classes, None where it is no logits.
        temperature: Divides logits before the softmax.
        scales: For each flattened output the variance that squared errors are divided by; () takes each
            batch's own.
    """

    axes: tuple[int | None, ...]
    temperature: float = TEMPERATURE
    scales: tuple[float, ...] = ()

    @classmethod
    def of(cls, model: TracedModel, temperature: float = TEMPERATURE) -> Distillation:
        """Return the distance for a model's outputs: which are logits is decided here, from the graph.

        Raises:
            UserError: No output is a floating-point tensor.
            ValueError: The temperature is not positive.
        """
        if temperature <= 0:
            raise ValueError(f"the temperature is {temperature}, and must be positive")
        outputs = _outputs(model)
        if not any(_is_floating(output) for output in outputs):
            raise UserError(
                f"none of its {len(outputs)} outputs is a floating-point tensor, so that there is nothing to imitate",
                where=model.name,
                fix="Give labels or a loss function, or let the model return what it computes them from",
            )
        return cls(tuple(logit_axis(one) if isinstance(one, fx.Node) else None for one in outputs), temperature)

    def fitted(self, teacher_outputs: Iterable[Any]) -> Distillation:
        """Return the distance with scales fixed to the variance over some batches of a teacher's outputs.

        With fixed scales the loss of a batch is the mean of its parts', whichever way it is cut.
        """
        columns = zip(*(self._leaves(outputs) for outputs in teacher_outputs), strict=True)
        scales = [_joint_scale([one for one in column if _is_floating(one)]) for column in columns]
        return replace(self, scales=tuple(scales))

    def loss(self, student_outputs: Any, teacher_outputs: Any) -> Tensor:
        """Return the mean over all floating-point outputs, a float32 scalar (float64 for such outputs).

        Args:
            student_outputs: Any structure of tensors, as the model returns them.
            teacher_outputs: The same structure; gets no gradient.

        Raises:
            ValueError: The structures or shapes differ.
        """
        students, teachers = self._leaves(student_outputs), self._leaves(teacher_outputs)
        terms = []
        for place, (student, teacher) in enumerate(zip(students, teachers, strict=True)):
            if _is_floating(teacher) and teacher.numel():
                if student.shape != teacher.shape:
                    raise ValueError(
                        f"output {place} has shape {tuple(student.shape)}, the teacher's {tuple(teacher.shape)}"
                    )
                terms.append(self._term(place, _wide(student), _wide(teacher.detach())))
        if not terms:
            raise ValueError("no output is a floating-point tensor with elements")
        return torch.stack(terms).mean()

    def _leaves(self, outputs: Any) -> list[Any]:
        """Return the flattened outputs."""
        leaves: list[Any] = pytree.tree_leaves(outputs)
        if len(leaves) != len(self.axes):
            raise ValueError(f"there are {len(leaves)} outputs, and {len(self.axes)} were expected")
        return leaves

    def _term(self, place: int, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of one output."""
        scale = self.scales[place] if self.scales else _scale(*_moments([teacher]))
        error = _squared_error(student, teacher, scale)
        axis = self.axes[place]
        if axis is None:
            return error
        return _divergence(student, teacher, axis, self.temperature) + SQUARED_ERROR_SHARE * error


def _divergence(student: Tensor, teacher: Tensor, axis: int, temperature: float) -> Tensor:
    """Return the Kullback-Leibler divergence of the softmaxes times the temperature's square, averaged over positions.

    Source: Hinton, Vinyals and Dean, Distilling the knowledge in a neural network, 2015.
    """
    left, right = (
        F.log_softmax(logits.clamp(-LARGEST_LOGIT, LARGEST_LOGIT) / temperature, dim=axis)
        for logits in (student, teacher)
    )
    summed = F.kl_div(left, right, reduction="none", log_target=True).sum(dim=axis)
    return summed.mean() * temperature**2


def _squared_error(student: Tensor, teacher: Tensor, scale: Tensor | float) -> Tensor:
    """Return the mean squared error where the teacher is finite, divided by a scale."""
    finite = teacher.isfinite()
    difference = torch.where(finite, student - torch.where(finite, teacher, 0.0), 0.0)
    return difference.square().mean() / torch.as_tensor(scale, dtype=student.dtype, device=student.device)


def _joint_scale(tensors: Sequence[Tensor]) -> float:
    """Return the scale of several batches of one output; 1 where it is not floating-point."""
    return float(_scale(*_moments([_wide(one.detach()) for one in tensors]))) if tensors else 1.0


def _moments(tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and mean square over all finite elements."""
    finite = [torch.where(one.isfinite(), one, 0.0).double() for one in tensors]
    count = max(sum(one.numel() for one in finite), 1)
    total, square = (
        torch.stack(sums).sum() for sums in ([x.sum() for x in finite], [x.square().sum() for x in finite])
    )
    return total / count, square / count


def _scale(mean: Tensor, square: Tensor) -> Tensor:
    """Return the variance, or a share of the mean square if that is more; 1 where all is 0."""
    variance = torch.maximum(square - mean**2, LEAST_VARIANCE * square)
    return torch.where(variance > 0, variance, 1.0)


def _outputs(model: TracedModel) -> list[Any]:
    """Return the outputs of the graph, flattened."""
    (result,) = (node.args[0] for node in model.graph.nodes if node.op == "output")
    return list(result) if isinstance(result, (list, tuple)) else [result]


def _is_floating(value: Any) -> bool:
    """Return whether an output, or the node that computes it, is a floating-point tensor."""
    known = value_of(value) if isinstance(value, fx.Node) else value
    return isinstance(known, (Tensor, Value)) and known.dtype.is_floating_point


def _wide(value: Tensor) -> Tensor:
    """Return a tensor in single precision at least; autocast would keep what it was computed in."""
    return value.to(torch.promote_types(value.dtype, torch.float32))
