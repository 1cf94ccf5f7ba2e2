"""The mean square of each unit's weights, as a differentiable function of the weights."""

from __future__ import annotations

import numpy as np
import torch

from smartc.masks.units import FloatArray, Units


def measured_weights(units: Units) -> tuple[str, ...]:
    """Return the names of the weights whose size tells a unit's, each once."""
    return tuple(dict.fromkeys(weight.name for weight in units.owners))


def unit_squares(units: Units, names: tuple[str, ...], weights: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Return the mean square of each unit's weights, shape (units,).

    Args:
        units: The units.
        names: What ``measured_weights`` returns.
        weights: The weights of these names.
    """
    stored = dict(zip(names, weights, strict=True))
    sums = [weight.layout.sums(stored[weight.name] ** 2) for weight in units.owners]
    if units.granularity.spans_weights:
        total = torch.stack(sums).sum(0) if sums else torch.zeros(units.count)
    else:
        total = torch.cat(sums) if sums else torch.zeros(units.count)
    sizes = torch.from_numpy(units.sizes).to(total).clamp_min(1)
    return total / sizes


def layer_ranks(units: Units, energy: FloatArray) -> FloatArray:
    """Return the share of its layer's units that are no larger than a unit, shape (units,): one threshold suits all."""
    order = np.lexsort((energy, units.layer_of))
    ends = np.cumsum(units.per_layer)
    ranks = np.empty(units.count)
    ranks[order] = np.arange(units.count) - np.repeat(ends - units.per_layer, units.per_layer) + 1.0
    return ranks / np.maximum(units.per_layer, 1)[units.layer_of]
