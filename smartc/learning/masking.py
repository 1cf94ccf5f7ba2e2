"""Masks for a compile job: chosen at once from the weights, or learned from data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from smartc.analysis.analyse import analysed
from smartc.core.errors import UserError
from smartc.data.batch import Samples
from smartc.decision.decision import Decision, unread_channels
from smartc.decision.job import CompileJob
from smartc.ir.traced_model import operator_name
from smartc.learning.budgets.channel_budget import ChannelBudget
from smartc.learning.budgets.live_weights import LiveWeights
from smartc.learning.budgets.unit_budget import SAME, CountBudget, PatternBudget, PricedBudget, UnitBudget
from smartc.learning.learners.learner import LearnerInputs
from smartc.learning.learners.registry import LEARNERS, NOTHING, Calibration, first_importance
from smartc.learning.statistics.damage import damage
from smartc.learning.statistics.input_energy import input_energy
from smartc.learning.training.mask_search import MaskSearch
from smartc.learning.training.train import Training
from smartc.masks.granularity import Granularity
from smartc.masks.units import Units, find_units
from smartc.results.figures import Learning, LearningMoment
from smartc.selection.budget import impossible
from smartc.selection.kept_options import KeptOptions

# Samples that first scores, the sizes of outputs and closed-form reconstruction are computed from.
SEEN_SAMPLES = 64


def new_search(
    job: CompileJob, steps: int, batch_norm: bool, seen: Calibration = NOTHING, few: bool = False
) -> MaskSearch:
    """Return a search for the masks of a job that has not begun.

    Args:
        job: What is compiled.
        steps: Steps of the weights in all.
        batch_norm: Whether batch norms learn.
        seen: What a few samples tell.
        few: Whether there are few samples to learn from.

    Raises:
        UserError: The budget cannot be met.
    """
    units = find_units(job.original, job.layers, job.granularity)
    budget = unit_budget(job, units)
    importance = first_importance(job.learner, job.original, units, job.layers.groups, seen)
    if budget.cost is not None and job.granularity.kind != "channel" and job.learner not in ("smart", "sp-lamp"):
        importance = importance * budget.cost  # ranks hold whatever a unit costs
    kind = LEARNERS[job.learner]
    no_batch_norm = no_batch_norm_learns(job, batch_norm)
    share = kind.share_for(few, job.granularity.kind == "channel")
    # One step at least, which shows what the model is called with.
    searched = max(int(share * steps), 1) if share and steps else 0
    start = LearnerInputs(units, budget, importance, searched, no_batch_norm, few)
    # A budget that cannot be met is told before any work is done.
    budget.keep(importance)
    return MaskSearch.of(job.original, units, kind(start), steps, batch_norm)


def with_better_granularity(job: CompileJob, samples: Samples | None) -> CompileJob:
    """Return the job with channels in place of blocks where these would lose more for the same budget.

    Blocks are finer, but cost nothing less in layers that have no tiles, such as depthwise ones.
    """
    if job.granularity.kind != "block" or job.budget.kind == "sparsity":
        return job
    seen = NOTHING if samples is None else Calibration(input_energy(job.original, calibration_inputs(samples)))
    losses = {}
    for granularity in (job.granularity, Granularity("channel")):
        candidate = replace(job, granularity=granularity)
        try:
            search = new_search(candidate, 0, batch_norm=False, seen=seen)
            keep = search.learner.start.budget.keep(search.learner.priorities())
        except UserError:
            continue  # the budget cannot be met by these
        losses[granularity] = damage(job.original, search.units.supports(keep), seen.inputs)
    best = min(losses, key=lambda granularity: losses[granularity], default=job.granularity)
    return replace(job, granularity=best)


def calibration_inputs(samples: Samples) -> list[tuple[Any, ...]]:
    """Return flattened inputs of a few samples."""
    return [part.inputs for part in samples.in_order(SEEN_SAMPLES // 4, SEEN_SAMPLES)]


def no_batch_norm_learns(job: CompileJob, batch_norm: bool) -> bool:
    """Return whether no batch norm learns, which would take up what training does to the size of activations."""
    norms = any(operator_name(node.target) == "batch_norm" for node in job.original.calls())
    return not (batch_norm and norms)


def unit_budget(job: CompileJob, units: Units) -> UnitBudget:
    """Return the budget of a job in units."""
    budget, kind = job.budget, job.granularity.kind
    if kind == "n:m":
        return PatternBudget(float(job.granularity.rows), job.granularity.columns)
    if kind == "channel":
        empty = KeptOptions(job.layers, job.target, np.ones(units.count), budget.measure)
        return ChannelBudget(empty, budget)
    if budget.kind == "sparsity":
        return CountBudget(float(round(budget.limit * units.count)))
    weights = LiveWeights(units, job.layers, job.target, budget.measure)
    if weights.least > budget.limit * (1 + SAME):
        raise impossible(budget, weights.least, job.target)
    return PricedBudget(weights, budget.limit)


def mask_once(job: CompileJob) -> Decision:
    """Return the blocks or single weights to keep by the weights alone."""
    search = new_search(job, 0, batch_norm=False)
    search.harden()
    return decided(job, search, None)


def decided(job: CompileJob, search: MaskSearch, learning: Learning | None) -> Decision:
    """Return what a search came to."""
    model, masked = search.learned(), search.masked_for_proof()
    if job.granularity.kind == "channel":
        budget = search.learner.start.budget
        assert isinstance(budget, ChannelBudget)
        assert search.keep is not None
        layers = analysed(model)
        found = KeptOptions(layers, job.target, np.ones(layers.groups.count))
        return Decision(model, found, budget.choice(search.keep), search.keep, masked=masked, learning=learning)
    return replace(unread_channels(model, job), units=search.units, kept=search.keep, masked=masked, learning=learning)


def learning_facts(
    job: CompileJob,
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
        learner=job.learner,
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
