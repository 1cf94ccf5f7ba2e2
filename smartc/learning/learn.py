"""Learn the masks of a compile job, and the weights that are left, from samples."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from typing import Any

import torch

from smartc.core.errors import UserError
from smartc.data.batch import Samples
from smartc.decision.decision import Decision
from smartc.decision.job import CompileJob
from smartc.decision.plan import traced_model_hash
from smartc.learning.begin_search import new_search
from smartc.learning.calibrate import Inputs, calibrated, calibrated_with_sensitivity, calibration_inputs
from smartc.learning.choose_objective import objective_for
from smartc.learning.decided import decided
from smartc.learning.learning_facts import learning_facts
from smartc.learning.objectives.augment import augmented
from smartc.learning.objectives.objective import Objective
from smartc.learning.refit import refit, refit_by_samples
from smartc.learning.repair import repaired
from smartc.learning.statistics.batch_norm_statistics import reestimate_batch_norm
from smartc.learning.statistics.calibration import Calibration
from smartc.learning.training.checkpoint import Checkpoint
from smartc.learning.training.distributed import Processes, joined
from smartc.learning.training.mask_search import MaskSearch, SearchState
from smartc.learning.training.settings import Settings, few_samples
from smartc.learning.training.train import Run, Training

# Samples that batch-norm statistics are computed from.
STATISTICS_ON = 2048
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
    few = few_samples(samples.count)
    with job.clock("learning"), joined() as processes:
        inputs = calibration_inputs(samples)
        objective = objective_for(job, samples, inputs, train, settings.seed)
        search = new_search(job, steps, not few, _calibration(job, samples, inputs, objective), few)
        training = _training(search, few, settings, (steps, batch))
        about = (objective.name, samples.source, samples.count, _inputs_hash(inputs), training)
        checkpoint = _checkpoint(job, about, settings, processes)
        if few or not steps:
            search.on_hard = lambda found: refit(found, [*inputs, *augmented(inputs)])
        else:
            refit_by_samples(search, samples, batch, settings.seed)
        run = Run(
            search=search,
            samples=samples,
            objective=objective,
            training=training,
            processes=processes,
            checkpoint=checkpoint,
            watch=lambda state: None if watch is None or not processes.first else watch(state, steps, search.met),
        )
        run.train()
        search.harden_if_due()
        if not few:
            _reestimate(search, samples, batch)
        learning = learning_facts(
            job, search, objective=objective.name, samples=samples, training=training, seed=settings.seed
        )
        return repaired(decided(job, search, learning), inputs)


def _calibration(job: CompileJob, samples: Samples, inputs: Inputs, objective: Objective) -> Calibration:
    """Return the calibration by a few samples; where there are many the sensitivity is not worth its time."""
    if few_samples(samples.count):
        return calibrated_with_sensitivity(job, inputs, samples, objective)
    return calibrated(job, inputs)


def _training(search: MaskSearch, few: bool, settings: Settings, length: tuple[int, int]) -> Training:
    """Return the settings of the training loop, given the number of steps and the samples of each."""
    rate, masks_first = search.learner.inputs.schedule.weight_rate, few and search.learner.moves_alone
    return Training(*length, settings.seed, settings.precision, rate, masks_first)


def _inputs_hash(batches: Inputs) -> str:
    """Return a hash of inputs, by which other data of the same name are told from these."""
    digest = hashlib.sha256()
    for value in itertools.chain.from_iterable(batches):
        tensor = torch.as_tensor(value).detach().cpu().contiguous()
        digest.update(tensor.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _checkpoint(job: CompileJob, learning: object, settings: Settings, processes: Processes) -> Checkpoint | None:
    """Return the file that keeps the state, None where none shall.

    Raises:
        UserError: A state is there that would be lost, or no place for one is named.
    """
    if settings.checkpoint is None:
        if settings.resume:
            raise UserError("no checkpoint is named", where="resume", fix="Give the path of one")
        return None
    # What a share comes to follows from the model and the target, but where it is measured it is never twice the same.
    asked = (job.budget.kind, job.budget.asked)
    model = traced_model_hash(job.captured), sorted(job.original.untouched)
    form = (job.granularity, job.uniform, job.approximate)
    facts = (model, job.target.to_dict(), asked, *form)
    about = repr((facts, job.learner, learning))
    digest = hashlib.sha256(about.encode()).hexdigest()
    checkpoint = Checkpoint(settings.checkpoint, digest, settings.resume, writes=processes.first)
    checkpoint.check()
    return checkpoint


def _reestimate(search: MaskSearch, samples: Samples, batch: int) -> None:
    """Give batch norms the statistics of the network as it is now."""
    batches = [part.inputs for part in samples.in_order(batch, STATISTICS_ON)]
    search.take(reestimate_batch_norm(search.learned(), batches))
