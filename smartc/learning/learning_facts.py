"""Say for the report how a search went."""

from __future__ import annotations

from smartc.data.batch import Samples
from smartc.decision.job import CompileJob
from smartc.learning.training.mask_search import MaskSearch
from smartc.learning.training.train import Training
from smartc.results.figures import Learning, LearningMoment


def learning_facts(
    job: CompileJob,
    search: MaskSearch,
    *,
    objective: str = "a loop of the user's own",
    samples: Samples | None = None,
    training: Training | None = None,
    seed: int = 0,
) -> Learning:
    """Return the report's facts about the learning; what is not known of a user's own loop is zero or empty."""
    curve = tuple(
        LearningMoment(state.step, state.loss, state.temperature, state.fractional or 0.0, state.density)
        for state in search.curve
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
