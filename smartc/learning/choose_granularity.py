"""Choose between blocks and channels where the user leaves the granularity to the compiler."""

from __future__ import annotations

from dataclasses import replace

from smartc.core.errors import UserError
from smartc.data.batch import Samples
from smartc.decision.job import CompileJob
from smartc.learning.begin_search import new_search
from smartc.learning.calibrate import calibration_inputs
from smartc.learning.statistics.calibration import NO_CALIBRATION, Calibration
from smartc.learning.statistics.damage import damage
from smartc.learning.statistics.input_energy import input_energy
from smartc.masks.granularity import BlockGranularity, ChannelGranularity
from smartc.masks.units import find_units


def with_better_granularity(job: CompileJob, samples: Samples | None) -> CompileJob:
    """Return the job with channels in place of blocks where these would lose more for the same budget.

    Blocks are finer, but cost nothing less in layers that have no tiles, such as depthwise ones; recurrent layers
    have no blocks at all.
    """
    if not isinstance(job.granularity, BlockGranularity):
        return job
    if not find_units(job.original, job.layers, job.granularity).count:
        return replace(job, granularity=ChannelGranularity())
    if job.budget.kind == "sparsity":
        return job
    calibration = NO_CALIBRATION
    if samples is not None:
        calibration = Calibration(input_energy(job.original, calibration_inputs(samples)))
    losses = {}
    for granularity in (job.granularity, ChannelGranularity()):
        candidate = replace(job, granularity=granularity)
        try:
            search = new_search(candidate, 0, batch_norm=False, calibration=calibration)
            keep = search.learner.inputs.budget.keep(search.learner.priorities())
        except UserError:
            continue  # the budget cannot be met by these
        losses[granularity] = damage(job.original, search.units.supports(keep), calibration.variances)
    best = min(losses, key=lambda granularity: losses[granularity], default=job.granularity)
    return replace(job, granularity=best)
