"""Prices of one network's layers: those of the cost table, corrected by what each layer takes in the dense network."""

from __future__ import annotations

from dataclasses import replace

from smartc.decision.job import CompileJob
from smartc.learning.training.distributed import in_torchrun
from smartc.measuring.bench import Bench, dense_times
from smartc.measuring.measurement import NetworkTimes
from smartc.selection.budget import parse_budget, resolved_budget
from smartc.targets.measured import MeasuredTarget


def with_measured_prices(job: CompileJob, bench: Bench) -> CompileJob:
    """Return the job with its layers priced at what they take here, where a budget of time is to be met here.

    Processes that learn together must price alike, and each would measure something else: theirs is left as it is.
    """
    target, times = job.target, None
    if job.budget.kind == "latency" and isinstance(target, MeasuredTarget) and not in_torchrun():
        times = dense_times(job, bench)
    if times is None or not isinstance(target, MeasuredTarget):
        return job
    target = replace(target, factors=layer_factors(job, target, times))
    budget = resolved_budget(parse_budget(latency=job.budget.asked), job.layers, target)
    return replace(job, target=target, budget=budget)


def layer_factors(job: CompileJob, target: MeasuredTarget, dense: NetworkTimes) -> dict[str, float]:
    """Return by layer what it takes over what the table says; together they take what the whole network does.

    What the runtime does besides is shared out in proportion.  A layer without a kernel of its own takes nothing.
    """
    inside = sum(timing.ms for timing in dense.layers.values())
    if not inside:
        return {}
    besides = dense.total.ms / inside
    table = replace(target, factors={}).price(job.layers.workload(target, job.layers.full_sizes)).ms
    pairs = zip(job.layers.names, table, strict=True)
    taken = {name: timing.ms * besides for name, timing in dense.layers.items()}
    return {name: taken.get(name, 0.0) / float(ms) for name, ms in pairs if ms > 0}
