"""All learners by name, and what each takes a unit to be worth at the start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from smartc.analysis.channels.channel_groups import ChannelGroups
from smartc.ir.traced_model import TracedModel
from smartc.learning.learners.fixed import AcDc, OneShot, Taylor
from smartc.learning.learners.learner import Learner
from smartc.learning.learners.pdp import Pdp
from smartc.learning.learners.smart import Smart
from smartc.learning.learners.squares import layer_ranks
from smartc.learning.statistics.input_energy import weighted_squares
from smartc.masks.units import FloatArray, Units
from smartc.selection.channel_energy import unit_energy
from smartc.selection.importance import sp_lamp

# Where the outputs feel nothing of a unit, it counts as this share of what they feel of one on average.
UNFELT = 1e-6


@dataclass(frozen=True, eq=False)
class Calibration:
    """What a few samples tell of a model.

    Attributes:
        inputs: By a weight's name, how much what each of its input channels sees varies.
        felt: Tells how much the outputs feel each of some units; None where that was not found out.
    """

    inputs: Mapping[str, torch.Tensor]
    sensitivity_of: Callable[[Units], FloatArray] | None = None


NOTHING = Calibration({})

LEARNERS: dict[str, type[Learner]] = {
    "smart": Smart,
    "pdp": Pdp,
    "sp-lamp": OneShot,
    "magnitude": OneShot,
    "taylor": Taylor,
    "ac-dc": AcDc,
}


def first_importance(
    learner: str, model: TracedModel, units: Units, groups: ChannelGroups, seen: Calibration = NOTHING
) -> FloatArray:
    """Return per unit what it is worth before anything is learned, comparable between layers.

    For ``smart`` and ``sp-lamp`` the LAMP score within the layer; for the others, of blocks, the rank within
    the layer, and of channels the energy relative to the layer's mean.  The energy of a unit is the sum
    of its squared weights, for ``smart`` each times how much what it sees varies if that is known; of
    a channel, for ``smart`` and ``sp-lamp``, what it is expected to give the layers that read it.  Where it is
    known how much the outputs feel a unit, ``smart`` takes the geometric mean of that and the score: the
    one knows which layers matter, the other that what is left of a layer takes over.
    """
    importance = _worth(learner, model, units, groups, seen.inputs if learner == "smart" else {})
    if learner != "smart" or seen.sensitivity_of is None:
        return importance
    felt = seen.sensitivity_of(units)
    return np.asarray(np.sqrt(importance * np.maximum(felt, UNFELT * felt.mean())), dtype=np.float64)


def _worth(
    learner: str, model: TracedModel, units: Units, groups: ChannelGroups, inputs: Mapping[str, torch.Tensor]
) -> FloatArray:
    """Return what a unit is worth within its layer."""
    channels = units.granularity.spans_weights and learner in ("smart", "sp-lamp")
    if channels:
        energy = read_energy(model, units, inputs) if inputs else unit_energy(model, groups)
    else:
        energy = units.energy(model, inputs)
    if learner in ("smart", "sp-lamp"):
        return _lamp(units, energy if channels else energy * units.sizes)
    if not units.granularity.spans_weights:
        return layer_ranks(units, energy)
    return _relative(units, energy)


def read_energy(model: TracedModel, units: Units, seen: Mapping[str, torch.Tensor]) -> FloatArray:
    """Return for each channel the sum of its shares of the energy of the layers that read it.

    Args:
        model: Holds the weights.
        units: Channels.
        seen: How much the input channels of each weight vary.
    """
    total = np.zeros(units.count)
    for weight in units.weights:
        energy = weighted_squares(model, weight.name, seen)
        total += (weight.layout.sums(energy) / energy.sum().clamp_min(1e-300)).numpy()
    return total


def _lamp(units: Units, energy: FloatArray) -> FloatArray:
    """Return each unit's energy as a share of that of all units of its layer that are at least as strong."""
    importance = np.empty_like(energy)
    order = np.argsort(units.layer_of, kind="stable")
    for part in np.split(order, np.cumsum(units.per_layer)[:-1]):
        importance[part] = sp_lamp(energy[part])
    return importance


def _relative(units: Units, energy: FloatArray) -> FloatArray:
    """Return the energy relative to the mean of the layer."""
    mean = np.bincount(units.layer_of, energy, minlength=len(units.names)) / np.maximum(units.per_layer, 1)
    return energy / np.maximum(mean, 1e-300)[units.layer_of]
