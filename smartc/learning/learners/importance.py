"""Importance of units before anything is learned, comparable between layers: LAMP scores, and ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from smartc.analysis.channels.channel_groups import ChannelGroups
from smartc.ir.traced_model import TracedModel
from smartc.learning.learners.squares import layer_ranks
from smartc.learning.statistics.calibration import NO_CALIBRATION, Calibration
from smartc.learning.statistics.input_energy import weighted_squares
from smartc.masks.units import FloatArray, Units
from smartc.selection.channel_energy import unit_energy
from smartc.selection.importance import sp_lamp


@dataclass(frozen=True, eq=False)
class ImportanceInputs:
    """What the first importance of units is computed from.

    Attributes:
        model: Holds the weights.
        units: What is masked.
        groups: The model's channel groups.
        cost: The cost of each unit in the dense network, shape (units,); None where each costs one.
        calibration: What a few samples tell.
    """

    model: TracedModel
    units: Units
    groups: ChannelGroups
    cost: FloatArray | None = None
    calibration: Calibration = NO_CALIBRATION


def lamp_importance(inputs: ImportanceInputs, variances: Mapping[str, torch.Tensor]) -> FloatArray:
    """Return the LAMP score of each unit within its layer, shape (units,).

    The energy of a unit is the sum of its squared weights, each times the variance of its input if that is
    known; of a channel, what it is expected to give the layers that read it.

    Args:
        inputs: The units.
        variances: By a weight's name, the variance of each input channel; empty where it is not known.
    """
    model, units = inputs.model, inputs.units
    if not units.granularity.spans_weights:
        return _lamp(units, units.energy(model, variances) * units.sizes)
    return _lamp(units, read_energy(model, units, variances) if variances else unit_energy(model, inputs.groups))


def rank_importance(inputs: ImportanceInputs) -> FloatArray:
    """Return the rank of each unit within its layer times its cost; of channels the energy relative to the layer's.

    Ranks hold whatever a unit costs, so that a budget keeps as much of every layer.
    """
    units = inputs.units
    energy = units.energy(inputs.model)
    if units.granularity.spans_weights:
        return _relative(units, energy)
    ranks = layer_ranks(units, energy)
    return ranks if inputs.cost is None else ranks * inputs.cost


def read_energy(model: TracedModel, units: Units, variances: Mapping[str, torch.Tensor]) -> FloatArray:
    """Return the sum of each channel's shares of the energy of the layers that read it, shape (units,).

    Args:
        model: Holds the weights.
        units: Channels.
        variances: By a weight's name, the variance of each input channel.
    """
    total = np.zeros(units.count)
    for weight in units.weights:
        energy = weighted_squares(model, weight.name, variances)
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
