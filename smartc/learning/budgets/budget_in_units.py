"""The budget of a compile job, counted in the units that its masks keep or remove."""

from __future__ import annotations

import numpy as np

from smartc.decision.job import CompileJob
from smartc.learning.budgets.channel_budget import ChannelBudget
from smartc.learning.budgets.live_weights import LiveWeights
from smartc.learning.budgets.unit_budget import SAME, CountBudget, PatternBudget, PricedBudget, UnitBudget
from smartc.masks.granularity import ChannelGranularity, PatternGranularity
from smartc.masks.units import Units
from smartc.selection.budget import impossible
from smartc.selection.kept_options import KeptOptions


def budget_in_units(job: CompileJob, units: Units) -> UnitBudget:
    """Return the budget of a job in units.

    Raises:
        UserError: The budget cannot be met.
    """
    budget, granularity = job.budget, job.granularity
    if isinstance(granularity, PatternGranularity):
        return PatternBudget(float(granularity.kept), granularity.group)
    if isinstance(granularity, ChannelGranularity):
        empty = KeptOptions(job.layers, job.target, np.ones(units.count), budget.measure)
        return ChannelBudget(empty, budget)
    if budget.kind == "sparsity":
        return CountBudget(float(round(budget.limit * units.count)))
    return _priced(job, units)


def _priced(job: CompileJob, units: Units) -> PricedBudget:
    """Return the budget of blocks in what they cost on the target."""
    budget = job.budget
    weights = LiveWeights(units, job.layers, job.target, budget.measure)
    if weights.least > budget.limit * (1 + SAME):
        raise impossible(budget, weights.least, job.target)
    return PricedBudget(weights, budget.limit)
