"""What a model costs on a job's target once it is made, which is what a budget is held against."""

from __future__ import annotations

from smartc.analysis.analyse import analysed
from smartc.analysis.channels.channel_groups import ChannelGroups
from smartc.analysis.find_layers import Layers
from smartc.analysis.prices import price_layers
from smartc.core.errors import Argument, UserError
from smartc.decision.job import CompileJob
from smartc.ir.traced_model import TracedModel
from smartc.masks.layouts import BoolArray
from smartc.passes.stages import run_stage

# Costs are sums of floats; differences below this share are rounding.
ROUNDING = 1e-9


def result_cost(job: CompileJob, model: TracedModel, layers: Layers | None = None) -> float:
    """Return the cycles, MACs or bytes of a model with its zero tiles, in the measure of a job's budget."""
    costs = price_layers(model, layers or analysed(model), job.target)
    return float(costs.in_measure(job.budget.measure).sum())


def cost_without(job: CompileJob, groups: ChannelGroups, keep: BoolArray) -> float:
    """Return what a job's model costs without the channels that are not kept."""
    return result_cost(job, run_stage("remove", job.original, groups=groups, keep=keep).model)


def check_met(job: CompileJob, model: TracedModel) -> None:
    """Raise unless what was decided is within the budget, once the model is made.

    Raises:
        UserError: It is not.
    """
    budget = job.budget
    if budget.kind == "sparsity":
        return
    spent = result_cost(job, model)
    if spent > budget.limit * (1 + ROUNDING):
        what = budget.stated(spent, budget.dense)
        fact = f"the model that was made takes {what}: more of its weights are not zero than was foreseen"
        raise UserError(fact, where=Argument(budget.kind, budget.asked), fix="Ask for somewhat less")
