"""Importance of channels from the weights alone: magnitude and SP-LAMP."""

from __future__ import annotations

from typing import Any

import numpy as np

from smartc.analysis.channels.channel_groups import ChannelGroups
from smartc.core.errors import Argument, UserError
from smartc.ir.traced_model import TracedModel
from smartc.selection.channel_energy import producer_energy, unit_energy

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


def unit_scores(model: TracedModel, groups: ChannelGroups, learner: str) -> FloatArray:
    """Return a score per unit, comparable between groups; higher is worth more.

    Args:
        model: The model that was analysed.
        groups: Its channel groups.
        learner: ``sp-lamp`` (of what each channel is expected to give its readers) or ``magnitude``
            (of the weights that produce it).

    Raises:
        UserError: The learner is unknown.
    """
    if learner not in SCORES:
        fix = f"Choose one of {', '.join(SCORES)}"
        raise UserError("unknown learner", where=Argument("learner", learner), fix=fix)
    measure, score = SCORES[learner]
    energy = measure(model, groups)
    scores = np.empty_like(energy)
    for group in groups.groups:
        scores[group.units] = score(energy[group.units])
    return scores


def sp_lamp(energy: FloatArray) -> FloatArray:
    """Return each channel's energy as a share of that of all channels at least as strong.

    The strongest scores 1.  The sum runs from the strongest down, in float64: the difference of
    a total and a prefix would lose the small ones.

    Source: arXiv 2305.14403; LAMP, arXiv 2010.07611.
    """
    order = np.argsort(energy, kind="stable")
    ascending = energy[order]
    scores = np.empty_like(energy)
    tail = np.cumsum(ascending[::-1])[::-1]
    scores[order] = np.divide(ascending, tail, out=np.ones_like(tail), where=tail > 0)
    return scores


def magnitude(energy: FloatArray) -> FloatArray:
    """Return each channel's norm relative to the mean norm of its group."""
    norms = np.sqrt(energy)
    mean = norms.mean()
    return norms / mean if mean > 0 else np.ones_like(norms)


SCORES = {"sp-lamp": (unit_energy, sp_lamp), "magnitude": (producer_energy, magnitude)}
