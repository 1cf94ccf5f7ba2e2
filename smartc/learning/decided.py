"""Decisions that come from masks: hard ones from the weights alone, or those of a search."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from smartc.analysis.analyse import analysed
from smartc.decision.decision import Decision, unread_channels
from smartc.decision.job import CompileJob
from smartc.learning.begin_search import new_search
from smartc.learning.training.mask_search import MaskSearch
from smartc.results.figures import Learning
from smartc.selection.kept_options import KeptOptions


def mask_once(job: CompileJob) -> Decision:
    """Return the blocks or single weights to keep by the weights alone."""
    search = new_search(job, 0, batch_norm=False)
    search.harden()
    return decided(job, search, None)


def decided(job: CompileJob, search: MaskSearch, learning: Learning | None) -> Decision:
    """Return the decision that a search came to.

    Args:
        job: What is compiled.
        search: The search; masks that are still open are made hard.
        learning: What the report says about the learning.
    """
    model, masked = search.learned(), search.masked_for_proof()
    assert search.keep is not None
    choice = search.learner.inputs.budget.channel_choice(search.keep)
    if choice is None:
        unread = unread_channels(model, job)
        if not search.units.count:
            unread = replace(unread, choice=replace(unread.choice, note=f"no {job.granularity.plural} can be removed"))
        return replace(unread, units=search.units, kept=search.keep, masked=masked, learning=learning)
    layers = analysed(model, job.approximate)
    options = KeptOptions(layers, job.target, np.ones(layers.groups.count))
    return Decision(model, options, choice, search.keep, masked=masked, learning=learning)
