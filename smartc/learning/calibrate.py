"""What a few of the samples tell of a compile job's model before anything is learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smartc.core.errors import UserError
from smartc.data.batch import Samples
from smartc.decision.job import CompileJob
from smartc.ir.traced_model import TracedModel
from smartc.learning.objectives.distillation import Distillation
from smartc.learning.objectives.objective import LayerByLayer, Objective
from smartc.learning.objectives.sensitivity import sensitivity
from smartc.learning.statistics.calibration import Calibration
from smartc.learning.statistics.input_energy import recorded
from smartc.masks.units import FloatArray, Units

# Samples that first scores, the sizes of outputs and closed-form reconstruction are computed from.
CALIBRATION_SAMPLES = 64
# Batches of flattened inputs.
Inputs = Sequence[tuple[Any, ...]]


def calibration_inputs(samples: Samples) -> list[tuple[Any, ...]]:
    """Return the flattened inputs of a few samples."""
    return [part.inputs for part in samples.in_order(CALIBRATION_SAMPLES // 4, CALIBRATION_SAMPLES)]


def calibrated(job: CompileJob, inputs: Inputs) -> Calibration:
    """Return the variances of what the weights of a job see on flattened inputs."""
    return Calibration(recorded(job.original, inputs).energies())


def calibrated_with_sensitivity(job: CompileJob, inputs: Inputs, samples: Samples, objective: Objective) -> Calibration:
    """Return the variances of what the weights see, and the sensitivity of the outputs where these can be imitated.

    Args:
        job: What is compiled.
        inputs: Flattened inputs that the variances are of.
        samples: A few of them, one by one, are what the sensitivity is measured on.
        objective: Knows the distance between outputs, if it is layer by layer.
    """
    original = job.original
    recorder = recorded(original, inputs)
    try:
        known = objective.distillation if isinstance(objective, LayerByLayer) else None
        distillation = known or distillation_of(original, inputs)
    except UserError:
        return Calibration(recorder.energies())  # outputs that only the user's own loss understands

    def sensitivity_of(units: Units) -> FloatArray:
        singles = (part.inputs for part in samples.in_order(1, CALIBRATION_SAMPLES))
        return sensitivity(original, units, distillation, recorder, singles)

    return Calibration(recorder.energies(), sensitivity_of)


def distillation_of(model: TracedModel, inputs: Inputs) -> Distillation:
    """Return the distance to a model's outputs.

    With the variance of each batch's own outputs, a batch cut among processes would have another loss.
    """
    return Distillation.of(model).fitted([model.run(flat) for flat in inputs])
