"""Masks from a project: chosen at once from the weights, or learned from data."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from smartc.batch import Samples
from smartc.budget import impossible
from smartc.decision import Decision, unread_channels
from smartc.errors import UserError
from smartc.learning.batch_norm_statistics import reestimate_batch_norm
from smartc.learning.channel_budget import ChannelBudget
from smartc.learning.checkpoint import Checkpoint
from smartc.learning.damage import damage
from smartc.learning.distillation import Distillation
from smartc.learning.granularity import Granularity
from smartc.learning.input_energy import input_energy
from smartc.learning.learner import Start
from smartc.learning.learners import LEARNERS, NOTHING, Seen, first_worth
from smartc.learning.live_weights import LiveWeights
from smartc.learning.mask_search import MaskSearch, Moment
from smartc.learning.objective import FromDense, LayerByLayer, Objective, OwnLoss
from smartc.learning.reconstruction import reconstruct
from smartc.learning.sensitivity import sensitivity
from smartc.learning.settings import ENOUGH_FOR_STATISTICS, Settings
from smartc.learning.train import Run, Training
from smartc.learning.unit_budget import SAME, CountBudget, PatternBudget, PricedBudget, UnitBudget
from smartc.learning.units import Units, find_units
from smartc.learning.views import further_views
from smartc.learning.weight_optimizer import GENTLE_RATE, RATE
from smartc.learning.workers import Workers, joined
from smartc.model import TracedModel, operator_name
from smartc.plan import model_hash
from smartc.project import Project, analysed
from smartc.references import load_function
from smartc.report_figures import Learning, LearningMoment
from smartc.search import Search
from smartc.targets.workload import OpKind

# Samples that a closed-form reconstruction and batch-norm statistics are computed from.
RECONSTRUCT_ON, STATISTICS_ON = 64, 2048
# Told of every step: where it stands, the number of all steps, and how much of the budget is met.
Watch = Callable[[Moment, int, float], None]


def new_search(project: Project, steps: int, batch_norm: bool, seen: Seen = NOTHING, few: bool = False) -> MaskSearch:
    """Return a search for a project's masks that has not begun.

    Args:
        project: What is compiled.
        steps: Steps of the weights in all.
        batch_norm: Whether batch norms learn.
        seen: What a few samples tell.
        few: Whether there are few samples to learn from.

    Raises:
        UserError: The budget cannot be met.
    """
    units = find_units(project.original, project.layers, project.granularity)
    budget = unit_budget(project, units)
    worth = first_worth(project.learner, project.original, units, project.layers.groups, seen)
    if (
        budget.cost is not None
        and project.granularity.kind != "channel"
        and project.learner not in ("smart", "sp-lamp")
    ):
        worth = worth * budget.cost  # ranks hold whatever a unit costs
    kind = LEARNERS[project.learner]
    gentle = is_gentle(project, batch_norm)
    share = kind.share_of_few if few else kind.share
    start = Start(units, budget, worth, int(share * steps), gentle)
    # A budget that cannot be met is told before any work is done.
    budget.keep(worth)
    return MaskSearch.of(project.original, units, kind(start), steps, batch_norm)


def with_better_granularity(project: Project, samples: Samples | None) -> Project:
    """Return the project with channels in place of blocks where these would lose more for the same budget.

    Blocks are finer, but cost nothing less in layers that have no tiles, such as depthwise ones.
    """
    if project.granularity.kind != "block" or project.budget.kind == "sparsity":
        return project
    seen = NOTHING if samples is None else Seen(input_energy(project.original, _calibration(samples)))
    losses = {}
    for granularity in (project.granularity, Granularity("channel")):
        candidate = replace(project, granularity=granularity)
        try:
            search = new_search(candidate, 0, batch_norm=False, seen=seen)
            keep = search.learner.start.budget.keep(search.learner.priorities())
        except UserError:
            continue  # the budget cannot be met by these
        losses[granularity] = damage(project.original, search.units.supports(keep), seen.inputs)
    best = min(losses, key=lambda granularity: losses[granularity], default=project.granularity)
    return replace(project, granularity=best)


def _calibration(samples: Samples) -> list[tuple[Any, ...]]:
    """Return flattened inputs of a few samples."""
    return [part.inputs for part in samples.in_order(RECONSTRUCT_ON // 4, RECONSTRUCT_ON)]


def is_gentle(project: Project, batch_norm: bool) -> bool:
    """Return whether no batch norm learns, which would take up what training does to the size of activations."""
    norms = any(operator_name(node.target) == "batch_norm" for node in project.original.calls())
    return not (batch_norm and norms)


def unit_budget(project: Project, units: Units) -> UnitBudget:
    """Return a project's budget in units."""
    budget, kind = project.budget, project.granularity.kind
    if kind == "n:m":
        return PatternBudget(float(project.granularity.rows), project.granularity.columns)
    if kind == "channel":
        empty = Search(project.layers, project.target, np.ones(units.count), budget.measure)
        return ChannelBudget(empty, budget)
    if budget.kind == "sparsity":
        return CountBudget(float(round((1 - budget.amount) * units.count)))
    weights = LiveWeights(units, project.layers, project.target, budget.measure)
    limit = budget.limit(weights.total, project.target.array.frequency_hz)
    if weights.least > limit * (1 + SAME):
        device = (project.target.name, project.target.array.frequency_hz)
        raise impossible(budget, weights.least, weights.total, device)
    return PricedBudget(weights, limit)


def mask_once(project: Project) -> Decision:
    """Return the blocks or single weights to keep by the weights alone."""
    search = new_search(project, 0, batch_norm=False)
    search.harden()
    return decided(project, search, None)


def decided(project: Project, search: MaskSearch, learning: Learning | None) -> Decision:
    """Return what a search came to."""
    model, masked = search.learned(), search.masked_for_proof()
    if project.granularity.kind == "channel":
        budget = search.learner.start.budget
        assert isinstance(budget, ChannelBudget)
        assert budget.choice is not None
        assert search.keep is not None
        layers = analysed(model)
        found = Search(layers, project.target, np.ones(layers.groups.count))
        return Decision(model, found, budget.choice, search.keep, masked=masked, learning=learning)
    return replace(
        unread_channels(model, project), units=search.units, kept=search.keep, masked=masked, learning=learning
    )


def learn(
    project: Project,
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
    with project.clock("learning"), joined() as workers:
        calibration = _calibration(samples)
        objective = _objective(project, samples, train, settings.seed)
        search = new_search(project, steps, not few, _seen(project, samples, calibration, few), few)
        rate = GENTLE_RATE if is_gentle(project, not few) else RATE
        masks_first = few and LEARNERS[project.learner].moves_alone
        training = Training(steps, batch, settings.seed, settings.precision, rate, masks_first)
        about = (objective.name, samples.source, samples.count, _inputs_hash(calibration), training)
        checkpoint = _checkpoint(project, about, settings, workers)
        if few or not steps:
            search.on_hard = lambda found: _reconstruct(project, found, samples)
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
            project, search, objective=objective.name, samples=samples, training=training, seed=settings.seed
        )
        return decided(project, search, learning)


def _seen(project: Project, samples: Samples, calibration: Sequence[tuple[Any, ...]], few: bool) -> Seen:
    """Return what a few samples tell: where there are no more, how much the outputs feel each unit, too."""
    original = project.original
    inputs = input_energy(original, calibration)
    if not few:
        return Seen(inputs)
    try:
        distillation = _distillation(original, samples)
    except UserError:
        return Seen(inputs)  # outputs that only the user's own loss understands

    def singles() -> Iterator[tuple[Any, ...]]:
        return (part.inputs for part in samples.in_order(1, RECONSTRUCT_ON))

    return Seen(inputs, lambda units: sensitivity(original, units, distillation, singles))


def _objective(project: Project, samples: Samples, train: str | Callable[..., Any] | None, seed: int) -> Objective:
    """Return the user's loss, or the distance to the dense model."""
    original = project.original
    if train is not None:
        function = load_function(train, f"--train {train}") if isinstance(train, str) else train
        name = train if isinstance(train, str) else getattr(train, "__qualname__", "the function given")
        return OwnLoss(function, original, name)
    distillation = _distillation(original, samples)
    if samples.count is not None and samples.count < ENOUGH_FOR_STATISTICS:
        inputs = _calibration(samples)
        return replace(LayerByLayer.fitted(original, distillation, _taps(project), inputs), seed=seed)
    return FromDense(original, distillation, samples.labelled)


def _distillation(model: TracedModel, samples: Samples) -> Distillation:
    """Return the distance to a model's outputs.

    With the variance of each batch's own outputs, a batch cut among processes would have another loss.
    """
    return Distillation.of(model).fitted([model.run(inputs) for inputs in _calibration(samples)])


def _taps(project: Project) -> tuple[str, ...]:
    """Return the nodes whose values are what a layer with weights gives, what is fused into it included."""
    matrices = [row for row in project.layers.rows if row.shape.kind == OpKind.MATRIX]
    return tuple((row.fused[-1] if row.fused else row.node).name for row in matrices)


def _inputs_hash(batches: Sequence[tuple[Any, ...]]) -> str:
    """Return a hash of inputs, by which other data of the same name are told from these."""
    digest = hashlib.sha256()
    for value in itertools.chain.from_iterable(batches):
        tensor = torch.as_tensor(value).detach().cpu().contiguous()
        digest.update(tensor.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _checkpoint(project: Project, learning: object, settings: Settings, workers: Workers) -> Checkpoint | None:
    """Return where the state is kept, and what it is for, if it shall be.

    Raises:
        UserError: A state is there that would be lost, or no place for one is named.
    """
    if settings.checkpoint is None:
        if settings.resume:
            raise UserError("no checkpoint is named", where="resume", fix="Give the path of one")
        return None
    facts = (model_hash(project.original), project.target.to_dict(), project.budget, project.granularity)
    about = repr((facts, project.learner, learning))
    digest = hashlib.sha256(about.encode()).hexdigest()
    checkpoint = Checkpoint(settings.checkpoint, digest, settings.resume, writes=workers.first)
    checkpoint.check()
    return checkpoint


def _reconstruct(project: Project, search: MaskSearch, samples: Samples) -> None:
    """Refit the weights that are left to the dense model's activations, layer by layer."""
    assert search.keep is not None
    supports = search.units.supports(search.keep)
    batches = _calibration(samples)
    refitted = reconstruct(project.original, search.learned(), supports, [*batches, *further_views(batches)])
    search.take(refitted.model)


def _reestimate(search: MaskSearch, samples: Samples, batch: int) -> None:
    """Give batch norms the statistics of the network as it is now."""
    batches = [part.inputs for part in samples.in_order(batch, STATISTICS_ON)]
    search.take(reestimate_batch_norm(search.learned(), batches))


def learning_facts(
    project: Project,
    search: MaskSearch,
    *,
    objective: str = "a loop of the user's own",
    samples: Samples | None = None,
    training: Training | None = None,
    seed: int = 0,
) -> Learning:
    """Return what the report says about the learning; what is not known of a user's own loop is zero or empty."""
    curve = tuple(
        LearningMoment(moment.step, moment.loss, moment.temperature, moment.fractional or 0.0, moment.density)
        for moment in search.curve
    )
    return Learning(
        learner=project.learner,
        objective=objective,
        source="" if samples is None else samples.source,
        samples=None if samples is None else samples.count,
        steps=search.done,
        search_steps=search.search_steps,
        batch=0 if training is None else training.batch,
        seed=seed,
        precision="" if training is None else training.precision,
        fractional=search.fractional,
        layers=search.units.names,
        curve=curve,
    )
