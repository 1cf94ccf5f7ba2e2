"""Begin a search for the masks of a compile job."""

from __future__ import annotations

from smartc.decision.job import CompileJob
from smartc.ir.traced_model import operator_name
from smartc.learning.budgets.budget_in_units import budget_in_units
from smartc.learning.learners.importance import ImportanceInputs
from smartc.learning.learners.learner import LearnerInputs
from smartc.learning.learners.registry import LEARNERS
from smartc.learning.learners.schedule import schedule_for
from smartc.learning.statistics.calibration import NO_CALIBRATION, Calibration
from smartc.learning.training.mask_search import MaskSearch
from smartc.masks.units import find_units


def new_search(
    job: CompileJob,
    steps: int,
    batch_norm: bool,
    calibration: Calibration = NO_CALIBRATION,
    few_samples: bool = False,
) -> MaskSearch:
    """Return a search for the masks of a job that has not begun.

    Args:
        job: What is compiled.
        steps: Steps of the weights in all.
        batch_norm: Whether batch norms learn.
        calibration: What a few samples tell.
        few_samples: Whether there are few samples to learn from.

    Raises:
        UserError: The budget cannot be met.
    """
    learner = LEARNERS[job.learner]
    units = find_units(job.original, job.layers, job.granularity)
    budget = budget_in_units(job, units)
    known = ImportanceInputs(job.original, units, job.layers.groups, budget.cost, calibration)
    importance = learner.first_importance(known)
    schedule = schedule_for(job.granularity, _no_batch_norm_learns(job, batch_norm), few_samples)
    share = learner.share_for(schedule)
    # One step at least, which shows what the model is called with.
    searched = max(int(share * steps), 1) if share and steps else 0
    inputs = LearnerInputs(units, budget, importance, searched, schedule)
    # A budget that cannot be met is told before any work is done.
    budget.keep(importance)
    return MaskSearch.of(job.original, units, learner(inputs), steps, batch_norm)


def _no_batch_norm_learns(job: CompileJob, batch_norm: bool) -> bool:
    """Return whether no batch norm learns, which would take up what training does to the size of activations."""
    norms = any(operator_name(node.target) == "batch_norm" for node in job.original.calls())
    return not (batch_norm and norms)
