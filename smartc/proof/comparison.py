"""What a compilation did to the outputs: agreement with the original, and the user's own figure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from smartc.data.batch import Samples
from smartc.ir.cast_literals import cast_value
from smartc.ir.traced_model import InputSpec, Remark, TracedModel, sample_count
from smartc.proof.agreement import AgreementSum
from smartc.proof.evaluation import BATCH, Labelled, Metric, check_fits, evaluation, load_labelled
from smartc.proof.limits import NO_LIMITS, Limits
from smartc.proof.memory_plan import COMPARISON_BYTES, batches, samples_at_once
from smartc.proof.reference import seeded_inputs
from smartc.results.figures import Agreement, Evaluation

# Enough to show a wild disagreement; statements about accuracy need the user's data.
SEEDED_INPUTS = 8
# Of labelled inputs so many are compared; the user's own figure takes all of them.
LABELLED_INPUTS = 256
# Said where no samples are held out.
BOTH = "is measured on inputs that were learned from too, so others may agree less"


@dataclass(frozen=True, eq=False)
class Comparison:
    """The original and what to compare with it on.

    Attributes:
        original: The model before removal.
        samples: Inputs that the user gave, if any.
        labelled: What to evaluate by, if anything.
        limits: The least that the user takes.
        remarks: What there is to say on the inputs.
    """

    original: TracedModel
    samples: Samples | None
    labelled: Labelled | Metric | None
    limits: Limits = NO_LIMITS
    remarks: tuple[Remark, ...] = ()

    def agreement(self, compiled: TracedModel) -> Agreement:
        """Return how close the compiled model's outputs are to the original's, and on what.

        Outputs whose shapes hang on values, such as all that exceed a number, cannot be told apart one by one where
        these differ; they are left out, and the source says so.
        """
        found, count, left_out = AgreementSum(), 0, set[int]()
        inputs, source = self.inputs()
        for flat in inputs:
            pairs = list(zip(*map(pytree.tree_leaves, (self.original.run(flat), compiled.run(flat))), strict=True))
            left_out |= {place for place, pair in enumerate(pairs) if _shape(pair[0]) != _shape(pair[1])}
            kept = [pair for place, pair in enumerate(pairs) if place not in left_out]
            found.add(*([pair[side] for pair in kept] for side in (0, 1)))
            count += sample_count(flat)
        told = f", without {len(left_out)} outputs whose shapes hang on values" if left_out else ""
        return found.result(count, source + told)

    def evaluation(self, compiled: TracedModel) -> Evaluation | None:
        """Return the user's figure before and after."""
        return None if self.labelled is None else evaluation(self.original, compiled, self.labelled)

    def inputs(self) -> tuple[Iterator[tuple[Any, ...]], str]:
        """Return batches of the inputs to compare on: the user's, or seeded ones; as large as the memory lets them."""
        size = samples_at_once(self.original, BATCH, COMPARISON_BYTES, self.original.dtype.itemsize)
        if self.samples is not None:
            parts = self.samples.in_order(size, LABELLED_INPUTS)
            cast = (tuple(cast_value(value, self.original.dtype) for value in part.inputs) for part in parts)
            return cast, self.samples.source
        if isinstance(self.labelled, Labelled) and self.original.dynamic_batch:
            some = self.labelled.inputs[:LABELLED_INPUTS]
            return _chunks(some, self.original.inputs[0], size), self.labelled.source
        flat = seeded_inputs(self.original, batch=SEEDED_INPUTS)
        return iter(batches(self.original, flat, size)), "seeded normal inputs"


def _shape(output: Any) -> tuple[int, ...]:
    """Return the shape of an output; nothing for one that is no tensor."""
    return tuple(output.shape) if isinstance(output, torch.Tensor) else ()


def comparison_for(
    original: TracedModel,
    samples: Samples | None,
    evaluate: Any,
    limits: Limits = NO_LIMITS,
    learned_from: Samples | None = None,
) -> Comparison:
    """Return what to compare on, checked against the model's inputs.

    Args:
        original: The model before removal.
        samples: Inputs that the user gave to compare on; None where all are learned from.
        evaluate: Labelled inputs or a metric, if any.
        limits: The least that the user takes.
        learned_from: What is learned from, and compared on where there is nothing else.

    Raises:
        UserError: The labelled inputs do not fit the model.
    """
    labelled = None if evaluate is None else load_labelled(evaluate)
    if labelled is not None:
        check_fits(labelled, original.inputs)
    if samples is None and learned_from is not None:
        return Comparison(original, learned_from, labelled, limits, (Remark("agreement", BOTH),))
    return Comparison(original, samples, labelled, limits)


def _chunks(inputs: torch.Tensor, spec: InputSpec, size: int) -> Iterator[tuple[Any, ...]]:
    """Yield batches of labelled inputs in the model's type."""
    for start in range(0, len(inputs), size):
        chunk = inputs[start : start + size]
        scaled = chunk.to(spec.dtype) / 255 if chunk.dtype == torch.uint8 and spec.dtype.is_floating_point else chunk
        yield (scaled.to(spec.dtype),)
