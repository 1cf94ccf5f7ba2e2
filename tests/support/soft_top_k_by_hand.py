"""Budgets of a soft top-k found and counted another way, and how close ours comes to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from smartc.learning.soft_top_k.problem import LONG_ROW

# Relative: the tolerances of the search, and as much again for the rounding of the result and of this file's sums.
SPENT = {torch.float64: 1e-14, torch.float32: 1e-6}
# Absolute: a sigmoid at a root found to SPENT, where the costs span a factor of ten.
SAME = {torch.float64: 1e-11, torch.float32: 1e-5}
# A row that is solved on its own.
LONG = LONG_ROW + 77


def spent(soft: Tensor, cost: Tensor | None = None) -> float:
    """Return what is spent, in float64."""
    return (soft.double() if cost is None else soft.double() * cost.double()).sum().item()


def by_halving(scores: Tensor, amount: float, temperature: float, cost: Tensor | None = None) -> np.ndarray[Any, Any]:
    """Return the sigmoids at the threshold found by halving, in float64."""
    z = scores.double().flatten().numpy() / temperature
    c = np.ones_like(z) if cost is None else cost.double().flatten().numpy()
    low, high = z.min() - 60, z.max() + 60
    for _ in range(70):
        middle = (low + high) / 2
        sigmoids = 1 / (1 + np.exp(np.clip(middle - z, -700, 700)))
        low, high = (middle, high) if (c * sigmoids).sum() > amount else (low, middle)
    return sigmoids.reshape(scores.shape)
