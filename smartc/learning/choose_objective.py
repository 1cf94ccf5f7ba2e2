"""Choose what the learning of a compile job minimises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from smartc.core.errors import Argument
from smartc.core.load_by_name import load_function
from smartc.data.batch import Samples
from smartc.decision.job import CompileJob
from smartc.ir.traced_model import Value, value_of
from smartc.learning.calibrate import Inputs, distillation_of
from smartc.learning.objectives.objective import FromDense, LayerByLayer, Objective, OwnLoss
from smartc.learning.training.settings import few_samples
from smartc.targets.workload import OpKind


def objective_for(
    job: CompileJob, samples: Samples, inputs: Inputs, train: str | Callable[..., Any] | None, seed: int
) -> Objective:
    """Return the user's loss, or the distance to the dense model.

    Args:
        job: What is compiled.
        samples: What is learned from.
        inputs: Flattened inputs of a few samples, which tell the sizes of outputs.
        train: The user's loss, a function or its name, if there is one.
        seed: Decides how a few samples are varied.

    Raises:
        UserError: The user's loss cannot be loaded, or the model has no output to imitate.
    """
    original = job.original
    if train is not None:
        function = load_function(train, Argument("train", train)) if isinstance(train, str) else train
        name = train if isinstance(train, str) else getattr(train, "__qualname__", "the function given")
        return OwnLoss(function, original, name)
    distillation = distillation_of(original, inputs)
    if few_samples(samples.count):
        return replace(LayerByLayer.fitted(original, distillation, _layer_outputs(job), inputs), seed=seed)
    return FromDense(original, distillation, samples.labelled)


def _layer_outputs(job: CompileJob) -> tuple[str, ...]:
    """Return the names of the nodes that layers with weights end in, what is fused into them included."""
    matrices = [row for row in job.layers.rows if row.shape.kind == OpKind.MATRIX]
    # A call with several outputs is no end of a layer, and one of several layers is one all the same.
    ends = [row.fused[-1] if row.fused else row.node for row in matrices if isinstance(value_of(row.node), Value)]
    return tuple(dict.fromkeys(end.name for end in ends))
