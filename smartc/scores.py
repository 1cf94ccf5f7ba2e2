"""Importance of channels from the weights alone: magnitude and SP-LAMP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx

from smartc.errors import UserError
from smartc.model import TracedModel, arguments_of, operator_name
from smartc.passes.find_channel_groups import FROZEN, ChannelGroups

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


def unit_scores(model: TracedModel, groups: ChannelGroups, learner: str) -> FloatArray:
    """Return a score per unit, comparable between groups; higher is worth more.

    Args:
        model: The model that was analysed.
        groups: Its channel groups.
        learner: ``sp-lamp`` or ``magnitude``.

    Raises:
        UserError: The learner is unknown.
    """
    if learner not in LEARNERS:
        raise UserError("unknown learner", where=f"--learner {learner}", fix=f"Choose one of {', '.join(LEARNERS)}")
    energy = unit_energy(model, groups)
    scores = np.empty_like(energy)
    for group in groups.groups:
        scores[group.units] = LEARNERS[learner](energy[group.units])
    return scores


def unit_energy(model: TracedModel, groups: ChannelGroups) -> FloatArray:
    """Return each unit's sum of squared weights over all of its producers, batch norms folded in."""
    energy = np.zeros(groups.count)
    scales = _norm_scales(model)
    for axis in groups.axes:
        if axis.role == "owns":
            weight = model.tensor(axis.name).detach()
            squares = _squares_along(weight, axis.axis)
            scale = scales.get(axis.name)
            if scale is not None and len(scale) == len(squares):
                squares = squares * scale
            inside = axis.units != FROZEN
            energy += np.bincount(axis.units[inside], squares[inside], minlength=groups.count)
    return energy


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


LEARNERS: dict[str, Callable[[FloatArray], FloatArray]] = {"sp-lamp": sp_lamp, "magnitude": magnitude}


def _squares_along(weight: torch.Tensor, axis: int) -> FloatArray:
    """Return the sum of squares for each index of an axis, accumulated in blocks and added in float64."""
    others = [place for place in range(weight.ndim) if place != axis]
    norms = torch.linalg.vector_norm(weight, dim=others) if others else weight.abs()
    squares: FloatArray = norms.double().square().numpy()
    return squares


def _norm_scales(model: TracedModel) -> dict[str, FloatArray]:
    """Return for each weight that a batch norm follows the square of the norm's scale per channel."""
    scales = {}
    for node in model.calls():
        if operator_name(node.target) == "batch_norm" and isinstance(arguments_of(node)[0], fx.Node):
            producer = arguments_of(node)[0]
            weight = arguments_of(producer)[1] if len(arguments_of(producer)) > 1 else None
            if isinstance(weight, fx.Node) and weight.op == "get_attr" and len(producer.users) == 1:
                scale = _norm_scale(model, node)
                if scale is not None:
                    scales[str(weight.target)] = scale
    return scales


def _norm_scale(model: TracedModel, norm: fx.Node) -> FloatArray | None:
    """Return ``gamma**2 / (variance + eps)`` of a batch norm that uses its running variance."""
    gamma, _, _, variance, training, _, eps = arguments_of(norm)[1:8]
    if training or not isinstance(variance, fx.Node):
        return None
    scale = 1 / (model.tensor(str(variance.target)).double() + eps)
    if isinstance(gamma, fx.Node):
        scale = scale * model.tensor(str(gamma.target)).detach().double().square()
    squares: FloatArray = scale.numpy()
    return squares
