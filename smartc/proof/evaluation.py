"""What a model is worth: its accuracy on labelled inputs, or the value of the user's metric."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from smartc.core.errors import OWN_CODE_FAILURES, UserError, first_line
from smartc.data.labelled import Labelled, Metric, check_fits, load_labelled, shape_text
from smartc.ir.traced_model import TracedModel
from smartc.proof.agreement import agreement
from smartc.proof.memory_plan import COMPARISON_BYTES, samples_at_once
from smartc.results.figures import Evaluation

__all__ = ["Labelled", "Metric", "agreement", "check_fits", "evaluate", "evaluation", "load_labelled"]

BATCH = 100


def evaluation(original: TracedModel, compiled: TracedModel, labelled: Labelled | Metric) -> Evaluation:
    """Return the figure of a model before and after.

    Raises:
        UserError: The labelled inputs do not fit the model, or the metric fails.
    """
    check_fits(labelled, original.inputs)
    if isinstance(labelled, Metric):
        before, after = (_call_metric(model.graph_module, labelled) for model in (original, compiled))
        return Evaluation(labelled.source, labelled.name, 0, before, after)
    dtype = original.inputs[0].dtype
    most = samples_at_once(original, BATCH, COMPARISON_BYTES, original.dtype.itemsize)
    batch = min(most, len(labelled.inputs)) if original.dynamic_batch else original.examples[0].shape[0]
    before, after = (evaluate(model.graph_module, labelled, batch, dtype) for model in (original, compiled))
    return Evaluation(labelled.source, "accuracy", len(labelled.inputs), before, after)


def evaluate(
    module: nn.Module,
    labelled: Labelled | Metric,
    batch_size: int = BATCH,
    dtype: torch.dtype = torch.float32,
) -> float:
    """Return the top-1 accuracy, 0 to 1, or the value of the user's metric.

    Args:
        module: Takes one tensor; its first output holds scores, shape (N, classes, ...).
        labelled: What to evaluate by.
        batch_size: Inputs per call; every call gets as many, as a model may have a fixed batch.
        dtype: The type of the module's input.

    Raises:
        UserError: The output has no scores for each label, or the user's metric fails.
    """
    if isinstance(labelled, Metric):
        return _call_metric(module, labelled)
    right, total = 0, 0
    with torch.no_grad():
        for inputs, labels in _batches(labelled, batch_size):
            scores = _scores(module(_as_input(inputs, dtype)), labelled)
            hits = scores[: len(labels)].argmax(1).eq(labels)
            right, total = right + int(hits.sum()), total + hits.numel()
    return right / total


def _batches(labelled: Labelled, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches; the last repeats its last input until it is full, and has fewer labels."""
    for start in range(0, len(labelled.inputs), size):
        inputs = labelled.inputs[start : start + size]
        filler = inputs[-1:].expand(size - len(inputs), *inputs.shape[1:])
        yield torch.cat([inputs, filler]), labelled.labels[start : start + size]


def _as_input(inputs: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return inputs in the type that the model takes."""
    if not dtype.is_floating_point:
        return inputs
    return inputs.to(dtype) / 255 if inputs.dtype == torch.uint8 else inputs.to(dtype)


def _scores(outputs: Any, labelled: Labelled) -> torch.Tensor:
    """Return the first output if it has scores for each label."""
    found = [leaf for leaf in pytree.tree_leaves(outputs) if torch.is_tensor(leaf)]
    where, fix = labelled.where, "Give a metric of your own, as package.module:function"
    if not found or found[0].ndim < 2 or found[0].shape[2:] != labelled.labels.shape[1:]:
        shape = shape_text(found[0]) if found else "none"
        fact = f"the model's output has the shape {shape} and the labels {shape_text(labelled.labels)}"
        raise UserError(f"{fact}, so there is no accuracy", where=where, fix=fix)
    lowest, highest = int(labelled.labels.min()), int(labelled.labels.max())
    if lowest < 0 or highest >= found[0].shape[1]:
        fact = f"labels go from {lowest} to {highest} and the model has {found[0].shape[1]} classes"
        raise UserError(fact, where=where, fix="Number the classes from 0")
    return found[0]


def _call_metric(module: nn.Module, metric: Metric) -> float:
    """Return the value of the user's metric."""
    try:
        with torch.no_grad():
            return float(metric.function(module))
    except OWN_CODE_FAILURES as error:
        fact = f"it fails: {type(error).__name__}: {first_line(error)}"
        fix = "It is called with the model and must return a number"
        raise UserError(fact, where=metric.where, fix=fix) from error
