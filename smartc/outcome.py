"""What a compilation did to the outputs: agreement with the original, and the user's own figure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from smartc.capture import split_arguments
from smartc.errors import UserError
from smartc.evaluation import BATCH, Labelled, Metric, agreement, check_fits, evaluation, load_labelled
from smartc.model import InputSpec, TracedModel, cast_value
from smartc.report_figures import Agreement, Evaluation
from smartc.verify import seeded_inputs

# Enough to show a wild disagreement; statements about accuracy need the user's data.
SEEDED_INPUTS = 8
# Of labelled inputs so many are compared; the user's own figure takes all of them.
LABELLED_INPUTS = 256


@dataclass(frozen=True, eq=False)
class Outcome:
    """The original and what to compare with it on.

    Attributes:
        original: The model before removal.
        batches: Flattened inputs that the user gave, if any.
        labelled: What to evaluate by, if anything.
    """

    original: TracedModel
    batches: tuple[tuple[Any, ...], ...]
    labelled: Labelled | Metric | None

    def agreement(self, compiled: TracedModel) -> Agreement:
        """Return how close the compiled model's outputs are to the original's, and on what."""
        batches, source = self._inputs()
        expected, actual = ([model.run(flat) for flat in batches] for model in (self.original, compiled))
        return agreement(expected, actual, sum(_batch_of(flat) for flat in batches), source)

    def evaluation(self, compiled: TracedModel) -> Evaluation | None:
        """Return the user's figure before and after."""
        return None if self.labelled is None else evaluation(self.original, compiled, self.labelled)

    def _inputs(self) -> tuple[list[tuple[Any, ...]], str]:
        """Return the inputs to compare on: the user's, or seeded ones."""
        if self.batches:
            return list(self.batches), "the data given"
        if isinstance(self.labelled, Labelled) and self.original.dynamic_batch:
            some = self.labelled.inputs[:LABELLED_INPUTS]
            return list(_chunks(some, self.original.inputs[0])), self.labelled.source
        return [seeded_inputs(self.original, batch=SEEDED_INPUTS)], "seeded normal inputs"


def outcome_for(original: TracedModel, data: Any, evaluate: Any) -> Outcome:
    """Return what to compare on, checked against the model's inputs.

    Raises:
        UserError: The data or the labelled inputs do not fit the model.
    """
    labelled = None if evaluate is None else load_labelled(evaluate)
    if labelled is not None:
        check_fits(labelled, original.inputs)
    return Outcome(original, tuple(_batches(original, data)), labelled)


def _batches(original: TracedModel, data: Any) -> Iterator[tuple[Any, ...]]:
    """Yield flattened, checked inputs from a tensor, a tuple of arguments, or an iterable of these."""
    if data is None:
        return
    single = isinstance(data, (torch.Tensor, dict)) or (isinstance(data, tuple) and len(data) == len(original.inputs))
    if not single and not isinstance(data, Iterable):
        raise UserError(f"a {type(data).__name__} holds no inputs", where="data", fix="Give tensors")
    for number, batch in enumerate([data] if single else data):
        flat = tuple(pytree.tree_leaves(split_arguments(batch)))
        tensors = [value for value in flat if isinstance(value, torch.Tensor)]
        for spec, value in zip(original.inputs, tensors, strict=False):
            _check_shape(spec, value, number)
        if len(tensors) != len(original.inputs):
            raise UserError(
                f"batch {number} has {len(tensors)} tensors and the model takes {len(original.inputs)}",
                where="data",
                fix="Give a tensor per input",
            )
        yield tuple(cast_value(value, original.dtype) for value in flat)


def _check_shape(spec: InputSpec, value: torch.Tensor, number: int) -> None:
    """Fail unless a tensor has the shape of an input and no NaN."""
    wanted = [size for size in spec.shape if size is not None]
    given = [size for size, free in zip(value.shape, spec.shape, strict=False) if free is not None]
    if value.ndim != len(spec.shape) or given != wanted:
        shape = "x".join(map(str, value.shape))
        raise UserError(f"batch {number} has the shape {shape}, the model takes {spec}", where="data", fix="Reshape it")
    if value.is_floating_point() and bool(value.isnan().any()):
        raise UserError(f"batch {number} holds NaN", where="data", fix="Remove what is not a number")


def _chunks(inputs: torch.Tensor, spec: InputSpec) -> Iterator[tuple[Any, ...]]:
    """Yield batches of labelled inputs in the model's type."""
    for start in range(0, len(inputs), BATCH):
        chunk = inputs[start : start + BATCH]
        scaled = chunk.to(spec.dtype) / 255 if chunk.dtype == torch.uint8 and spec.dtype.is_floating_point else chunk
        yield (scaled.to(spec.dtype),)


def _batch_of(flat: tuple[Any, ...]) -> int:
    """Return the number of inputs in a batch."""
    return next((len(value) for value in flat if isinstance(value, torch.Tensor) and value.ndim), 1)
