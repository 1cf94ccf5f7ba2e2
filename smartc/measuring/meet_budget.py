"""Meet a budget of time by the times that were measured: correct what the prices may add up to, and decide again."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from smartc.decision.job import CompileJob
from smartc.ir.traced_model import Remark
from smartc.learning.budgets.live_weights import LiveWeights
from smartc.masks.units import find_units
from smartc.measuring.candidate import Candidate
from smartc.results.formats import milliseconds
from smartc.selection.budget import Budget
from smartc.selection.kept_options import KeptOptions

log = logging.getLogger(__name__)

# Networks that are built and timed at most.
ROUNDS = 5
# The time that is met, as shares of what was asked for: what is aimed at, from where on and up to where it is near
# enough, and below which more was removed than is told in silence.
AIM, NEAR, MOST, GIVEN_AWAY = 0.99, 0.95, 1.03, 0.9
# By which powers of its price the time of a network can change.
POWERS = (1 / 3, 3.0)
# Limits that differ by less than this share choose the same channels.
SAME_LIMIT = 1e-3


@dataclass(frozen=True)
class Trial:
    """A network that was timed.

    Attributes:
        limit: What its prices were to add up to.
        share: What it takes, as a share of what was asked for.
    """

    limit: float
    share: float


@dataclass(frozen=True, eq=False)
class Rounds:
    """The networks that were timed so far.

    Attributes:
        best: The one that gives least away among those that meet the budget, else the fastest.
        trials: All of them, in order; none where nothing was timed, or time is not what was asked for.
    """

    best: Candidate
    trials: tuple[Trial, ...]

    @classmethod
    def begun(cls, job: CompileJob, candidate: Candidate) -> Rounds:
        """Return the first round."""
        share = _share(job, candidate)
        return cls(candidate, () if share is None else (Trial(job.budget.limit, share),))

    def next_budget(self, job: CompileJob) -> Budget | None:
        """Return the budget to decide by next; None where the measured time is near enough, or no round would help."""
        if not self.trials:
            return None
        dense = job.budget.dense
        lines = (f"prices of {trial.limit / dense:.4f}x: {trial.share:.4f} of the budget" for trial in self.trials)
        job.dump.stage("budget", None, *lines)
        limit = next_limit(self.trials, _least(job), dense)
        return None if limit is None else replace(job.budget, limit=limit)

    def after(self, job: CompileJob, budget: Budget, candidate: Candidate) -> Rounds:
        """Return the rounds with one more, of a network within a budget."""
        share = _share(job, candidate)
        if share is None:
            return Rounds(self.best, ())
        trial, best = Trial(budget.limit, share), min(self.trials, key=_order)
        better = _order(trial) < _order(best)
        return Rounds(candidate if better else self.best, (*self.trials, trial))


def next_limit(trials: Sequence[Trial], least: float, dense: float) -> float | None:
    """Return the limit to try after some trials; None where the last is near enough, or nothing better is in reach.

    Args:
        trials: At least one.
        least: What the prices of the smallest network add up to.
        dense: What those of the whole network do.
    """
    last = trials[-1]
    if len(trials) >= ROUNDS or NEAR <= last.share <= MOST:
        return None
    low = max((trial.limit for trial in trials if trial.share < AIM), default=least)
    high = min((trial.limit for trial in trials if trial.share >= AIM), default=dense)
    guess = min(max(_guess(trials), low), high)
    for limit in (guess, (low + high) / 2):
        if low <= high and not any(math.isclose(limit, trial.limit, rel_tol=SAME_LIMIT) for trial in trials):
            return limit
    return None


def missed(job: CompileJob, candidate: Candidate) -> tuple[Remark, ...]:
    """Return the warning that a budget of time is not met by what was measured, or that far more was removed."""
    share, times = _share(job, candidate), candidate.times
    if share is None or times is None or (share <= MOST and not (share < GIVEN_AWAY and candidate.removes)):
        return ()
    verdict = "is missed" if share > MOST else "is more than met"
    learned = candidate.decision.learning is not None
    tried = "the network was learned for it once, and is not learned again" if learned else "nothing nearer was found"
    dense, after = times.dense.total.ms, times.compiled.total.ms
    took = f"{milliseconds(after)} of {milliseconds(dense)}, {after / dense:.4f}x, is measured"
    remark = Remark("budget", f"{verdict}: {job.budget.asked} was asked, and {took}; {tried}")
    log.warning("the %s %s", remark.where, remark.text)
    return (remark,)


def _guess(trials: Sequence[Trial]) -> float:
    """Return the limit at which the time is what is aimed at, if it is a power of the limit near there."""
    nearest, *others = sorted(trials, key=lambda trial: abs(math.log(trial.share / AIM)))
    power = 1.0
    if others:
        ratio = math.log(nearest.share / others[0].share) / math.log(nearest.limit / others[0].limit)
        power = float(np.clip(ratio, *POWERS))
    return float(nearest.limit * (AIM / nearest.share) ** (1 / power))


def _order(trial: Trial) -> tuple[bool, float, float]:
    """Return a key by which trials that meet the budget come first, then those nearest to it."""
    over = trial.share > MOST
    return over, trial.share if over else -trial.share, -trial.limit


def _share(job: CompileJob, candidate: Candidate) -> float | None:
    """Return what the report's file takes as a share of the time that was asked for; None where that is not known."""
    budget, times = job.budget, candidate.times
    if times is None or budget.kind != "latency":
        return None
    took, dense = times.compiled.total.ms, times.dense.total.ms
    if budget.asked.endswith("x"):
        return took / dense / (budget.limit / budget.dense)
    return took / (budget.limit / job.target.array.frequency_hz * 1e3)


def _least(job: CompileJob) -> float:
    """Return what the prices of the smallest network that can be decided on add up to."""
    if job.granularity.spans_weights:
        options = KeptOptions(job.layers, job.target, np.ones(job.layers.groups.count))
        return float(options.cost(options.fewest))
    return LiveWeights(find_units(job.original, job.layers, job.granularity), job.layers, job.target).least
