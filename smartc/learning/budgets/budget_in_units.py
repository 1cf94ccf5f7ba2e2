"""The budget of a compile job, counted in the units that its masks keep or remove."""

from __future__ import annotations

from functools import partial

import numpy as np

from smartc.decision.job import CompileJob
from smartc.decision.result_cost import cost_without
from smartc.learning.budgets.channel_budget import ChannelBudget
from smartc.learning.budgets.live_weights import LiveWeights
from smartc.learning.budgets.result_budget import ResultBudget
from smartc.learning.budgets.result_price import ResultPrice
from smartc.learning.budgets.unit_budget import SAME, CountBudget, PatternBudget, UnitBudget
from smartc.masks.granularity import ChannelGranularity, PatternGranularity
from smartc.masks.units import Units
from smartc.selection.budget import impossible
from smartc.selection.kept_options import KeptOptions
from smartc.selection.uniform_options import UniformOptions


def budget_in_units(job: CompileJob, units: Units) -> UnitBudget:
    """Return the budget of a job in units.

    Raises:
        UserError: The budget cannot be met.
    """
    budget, granularity = job.budget, job.granularity
    if isinstance(granularity, PatternGranularity):
        return PatternBudget(float(granularity.kept), granularity.group)
    if isinstance(granularity, ChannelGranularity):
        options = UniformOptions if job.uniform else KeptOptions
        empty = options(job.layers, job.target, np.ones(units.count), budget.measure)
        return ChannelBudget(empty, budget, partial(cost_without, job, job.layers.groups))
    if budget.kind == "sparsity":
        return CountBudget(float(round(budget.limit * units.count)))
    return _priced(job, units)


def _priced(job: CompileJob, units: Units) -> ResultBudget:
    """Return the budget of blocks in what the compiled model costs on the target."""
    budget, none = job.budget, np.zeros(units.count, dtype=bool)
    result = ResultPrice(job, units)
    # To make the model takes longer than to bound its price.
    if result.bound(none) > budget.limit * (1 + SAME):
        least = result.exact(none)
        if least > budget.limit * (1 + SAME):
            raise impossible(budget, least, job.target, job.granularity)
    return ResultBudget(LiveWeights(units, job.layers, job.target, budget.measure), budget.limit, result=result)
