"""The decide stage: what is kept, by scores of the weights or learned from samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from smartc.data.batch import Samples
from smartc.decision.decision import Decision, by_scores
from smartc.decision.job import CompileJob
from smartc.learning.choose_granularity import with_better_granularity
from smartc.learning.decided import mask_once
from smartc.learning.learn import Watch, learn
from smartc.learning.training.settings import Settings


def settle_granularity(job: CompileJob, samples: Samples | None, asked: str) -> CompileJob:
    """Return the job with the granularity that loses least for its budget, where none was asked for."""
    if asked != "auto":
        return job
    with job.clock("planning"):
        return with_better_granularity(job, samples)


def decide(
    job: CompileJob,
    samples: Samples | None,
    train: str | Callable[..., Any] | None,
    settings: Settings,
    watch: Watch | None,
) -> Decision:
    """Return what is kept.

    Args:
        job: What is compiled, for what.
        samples: What to learn from; without any the weights alone decide.
        train: A loss of the user's own.
        settings: How learning goes.
        watch: Told of every step of learning.

    Raises:
        UserError: The budget cannot be met, or the data, the loss or a checkpoint are not as they must be.
    """
    if samples is not None:
        decision = learn(job, samples, train, settings, watch)
    else:
        with job.clock("planning"):
            decision = by_scores(job) if job.granularity.spans_weights else mask_once(job)
    job.dump.stage("decide", decision.masked or decision.model, *_facts(decision))
    return decision


def _facts(decision: Decision) -> list[str]:
    """Return a line for every channel group, and for every masked weight."""
    pairs = zip(decision.options.groups.groups, decision.choice.reasons, strict=True)
    lines = [f"group {group.name}: {reason}" for group, reason in pairs]
    if decision.units is not None and decision.kept is not None:
        for weight in decision.units.weights:
            part = decision.kept[weight.part]
            lines.append(f"weight {weight.name}: keeps {int(part.sum())} of {len(part)} units")
    return lines
