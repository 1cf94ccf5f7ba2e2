"""Learn the masks of a compile job, and the weights that are left, from samples."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from smartc.core.errors import Argument, UserError
from smartc.core.load_by_name import load_function
from smartc.data.batch import Samples
from smartc.decision.decision import Decision
from smartc.decision.job import CompileJob
from smartc.decision.plan import traced_model_hash
from smartc.ir.traced_model import TracedModel
from smartc.learning.learners.registry import LEARNERS, Calibration
from smartc.learning.masking import (
    SEEN_SAMPLES,
    calibration_inputs,
    decided,
    learning_facts,
    new_search,
    no_batch_norm_learns,
)
from smartc.learning.objectives.augment import augmented
from smartc.learning.objectives.distillation import Distillation
from smartc.learning.objectives.objective import FromDense, LayerByLayer, Objective, OwnLoss
from smartc.learning.objectives.sensitivity import sensitivity
from smartc.learning.refit import refit, refit_by_samples
from smartc.learning.statistics.batch_norm_statistics import reestimate_batch_norm
from smartc.learning.statistics.input_energy import recorded
from smartc.learning.training.checkpoint import Checkpoint
from smartc.learning.training.distributed import Processes, joined
from smartc.learning.training.mask_search import MaskSearch, SearchState
from smartc.learning.training.settings import ENOUGH_FOR_STATISTICS, Settings
from smartc.learning.training.train import Run, Training
from smartc.learning.training.weight_optimizer import GENTLE_RATE, RATE
from smartc.masks.units import FloatArray, Units
from smartc.targets.workload import OpKind

# Samples that batch-norm statistics are computed from.
STATISTICS_ON = 2048
# Batches of flattened inputs.
Inputs = Sequence[tuple[Any, ...]]
# Told of every step: where it stands, the number of all steps, and how much of the budget is met.
Watch = Callable[[SearchState, int, float], None]


def learn(
    job: CompileJob,
    samples: Samples,
    train: str | Callable[..., Any] | None,
    settings: Settings,
    watch: Watch | None,
) -> Decision:
    """Learn the masks and the weights that are left from samples.

    Raises:
        UserError: The data, the loss or a checkpoint are not as they must be, or the budget cannot be met.
    """
    steps, batch = settings.steps_for(samples.count), settings.batch_for(samples.count)
    few = samples.count is not None and samples.count < ENOUGH_FOR_STATISTICS
    with job.clock("learning"), joined() as workers:
        calibration = calibration_inputs(samples)
        objective = _objective(job, samples, calibration, train, settings.seed)
        seen = _seen(job, samples, calibration, objective, few)
        search = new_search(job, steps, not few, seen, few)
        rate = GENTLE_RATE if no_batch_norm_learns(job, not few) else RATE
        masks_first = few and LEARNERS[job.learner].moves_alone
        training = Training(steps, batch, settings.seed, settings.precision, rate, masks_first)
        about = (objective.name, samples.source, samples.count, _inputs_hash(calibration), training)
        checkpoint = _checkpoint(job, about, settings, workers)
        if few or not steps:
            search.on_hard = lambda found: refit(found, [*calibration, *augmented(calibration)])
        else:
            refit_by_samples(search, samples, batch, settings.seed)
        run = Run(
            search=search,
            samples=samples,
            objective=objective,
            training=training,
            workers=workers,
            checkpoint=checkpoint,
            watch=lambda moment: None if watch is None or not workers.first else watch(moment, steps, search.met),
        )
        run.train()
        search.harden_if_due()
        if not few:
            _reestimate(search, samples, batch)
        learning = learning_facts(
            job, search, objective=objective.name, samples=samples, training=training, seed=settings.seed
        )
        return decided(job, search, learning)


def _seen(job: CompileJob, samples: Samples, calibration: Inputs, objective: Objective, few: bool) -> Calibration:
    """Return what a few samples tell: where there are no more, how much the outputs feel each unit, too."""
    original = job.original
    recorder = recorded(original, calibration)
    if not few:
        return Calibration(recorder.energies())
    try:
        known = objective.distillation if isinstance(objective, LayerByLayer) else None
        distillation = known or _distillation(original, calibration)
    except UserError:
        return Calibration(recorder.energies())  # outputs that only the user's own loss understands

    def sensitivity_of(units: Units) -> FloatArray:
        singles = (part.inputs for part in samples.in_order(1, SEEN_SAMPLES))
        return sensitivity(original, units, distillation, recorder, singles)

    return Calibration(recorder.energies(), sensitivity_of)


def _objective(
    job: CompileJob, samples: Samples, calibration: Inputs, train: str | Callable[..., Any] | None, seed: int
) -> Objective:
    """Return the user's loss, or the distance to the dense model."""
    original = job.original
    if train is not None:
        function = load_function(train, Argument("train", train)) if isinstance(train, str) else train
        name = train if isinstance(train, str) else getattr(train, "__qualname__", "the function given")
        return OwnLoss(function, original, name)
    distillation = _distillation(original, calibration)
    if samples.count is not None and samples.count < ENOUGH_FOR_STATISTICS:
        return replace(LayerByLayer.fitted(original, distillation, _taps(job), calibration), seed=seed)
    return FromDense(original, distillation, samples.labelled)


def _distillation(model: TracedModel, calibration: Inputs) -> Distillation:
    """Return the distance to a model's outputs.

    With the variance of each batch's own outputs, a batch cut among processes would have another loss.
    """
    return Distillation.of(model).fitted([model.run(inputs) for inputs in calibration])


def _taps(job: CompileJob) -> tuple[str, ...]:
    """Return the nodes whose values are what a layer with weights gives, what is fused into it included."""
    matrices = [row for row in job.layers.rows if row.shape.kind == OpKind.MATRIX]
    return tuple((row.fused[-1] if row.fused else row.node).name for row in matrices)


def _inputs_hash(batches: Sequence[tuple[Any, ...]]) -> str:
    """Return a hash of inputs, by which other data of the same name are told from these."""
    digest = hashlib.sha256()
    for value in itertools.chain.from_iterable(batches):
        tensor = torch.as_tensor(value).detach().cpu().contiguous()
        digest.update(tensor.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _checkpoint(job: CompileJob, learning: object, settings: Settings, workers: Processes) -> Checkpoint | None:
    """Return where the state is kept, and what it is for, if it shall be.

    Raises:
        UserError: A state is there that would be lost, or no place for one is named.
    """
    if settings.checkpoint is None:
        if settings.resume:
            raise UserError("no checkpoint is named", where="resume", fix="Give the path of one")
        return None
    facts = (traced_model_hash(job.original), job.target.to_dict(), job.budget, job.granularity)
    about = repr((facts, job.learner, learning))
    digest = hashlib.sha256(about.encode()).hexdigest()
    checkpoint = Checkpoint(settings.checkpoint, digest, settings.resume, writes=workers.first)
    checkpoint.check()
    return checkpoint


def _reestimate(search: MaskSearch, samples: Samples, batch: int) -> None:
    """Give batch norms the statistics of the network as it is now."""
    batches = [part.inputs for part in samples.in_order(batch, STATISTICS_ON)]
    search.take(reestimate_batch_norm(search.learned(), batches))
