"""The share of what its layers compute that a model loses to masks, before anything is learned."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from smartc.ir.traced_model import TracedModel
from smartc.learning.statistics.input_energy import weighted_squares


def damage(model: TracedModel, supports: Mapping[str, torch.Tensor], variances: Mapping[str, torch.Tensor]) -> float:
    """Return the mean ratio of lost to kept energy over the masked weights; infinite where one keeps nothing.

    Args:
        model: Holds the weights.
        supports: For each masked weight which of its elements stay.
        variances: Of what each input channel of a weight sees, where they are known.
    """
    ratios = []
    for name, kept in supports.items():
        energy = weighted_squares(model, name, variances)
        lost, left = float(energy[~kept].sum()), float(energy[kept].sum())
        ratios.append(lost / left if left else (np.inf if lost else 0.0))
    return float(np.mean(ratios)) if ratios else 0.0
