"""Learners that rank the units by what they are worth, once or several times: one-shot, Taylor, AC/DC."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from smartc.learning.learners.learner import Learner, LearnerInputs
from smartc.learning.learners.squares import layer_ranks, measured_weights, unit_squares
from smartc.masks.units import FloatArray

# AC/DC's dense and compressed phases take turns so many times.
CYCLES = 4


def by_rank(start: LearnerInputs, energy: FloatArray) -> FloatArray:
    """Return what makes a budget keep as much of every layer, the largest units first."""
    ranks = layer_ranks(start.units, energy)
    return ranks if start.budget.cost is None else ranks * start.budget.cost


class OneShot(Learner):
    """Keep what is worth most at the start; all steps train what is left."""


class Taylor(Learner):
    """Keep what the loss depends on most, to first order.

    A unit's worth is the mean over some steps of ``(sum of weight x gradient)^2``, in each layer divided by the
    length of the vector of all: without that, whole layers are emptied.

    Source: Molchanov et al., arXiv 1906.10771; the lengths: arXiv 1611.06440, section 2.2.
    """

    share = 0.1
    moves_alone = True

    def __init__(self, start: LearnerInputs) -> None:
        """Begin without any gradient seen."""
        super().__init__(start)
        self.probe = nn.Parameter(torch.ones(start.units.count))
        self.register_buffer("total", torch.zeros(start.units.count, dtype=torch.float64), persistent=False)

    total: torch.Tensor

    def soft(self, *weights: torch.Tensor) -> torch.Tensor:
        """Return a mask of ones, whose gradient is each unit's sum of weight x gradient."""
        return self.probe

    def settle(self) -> None:
        """Undo what another optimizer did to the mask."""
        with torch.no_grad():
            self.probe.fill_(1.0)

    def advance(self, step: int) -> None:
        """Add up the squares."""
        if self.probe.grad is not None:
            self.total += self.probe.grad.double() ** 2
            self.probe.grad = None
        self.settle()

    def priorities(self) -> FloatArray:
        """Return the normalised squares, or the starting worth where no gradient was seen."""
        total: FloatArray = self.total.cpu().numpy()
        if not total.any():
            return self.start.importance
        layer_of = self.start.units.layer_of
        lengths = np.sqrt(np.bincount(layer_of, total**2))[layer_of]
        return np.divide(total, lengths, out=np.zeros_like(total), where=lengths > 0)


class AcDc(Learner):
    """Take turns between all weights and the largest units of the moment, as many of each layer.

    Source: AC/DC, arXiv 2106.12379.
    """

    share = 0.75

    def __init__(self, start: LearnerInputs) -> None:
        """Begin with everything kept."""
        super().__init__(start)
        self.measured = measured_weights(start.units)
        self.register_buffer("phase", torch.tensor(0), persistent=False)
        self.register_buffer("squares", torch.zeros(start.units.count), persistent=False)

    squares: torch.Tensor
    phase: torch.Tensor

    def soft(self, *weights: torch.Tensor) -> torch.Tensor:
        """Return the mask of the phase, and remember how large the units are."""
        with torch.no_grad():
            self.squares.copy_(unit_squares(self.start.units, self.measured, weights))
        return self.mask

    def advance(self, step: int) -> None:
        """Change phase at equal intervals."""
        phase = min(2 * CYCLES * step // max(self.start.steps, 1), 2 * CYCLES - 1)
        if phase != int(self.phase):
            self.phase.fill_(phase)
            dense = phase % 2 == 0
            self.set_mask(torch.from_numpy(self.start.budget.keep(self.priorities()) | dense))

    def priorities(self) -> FloatArray:
        """Return each unit's rank by size within its layer, whatever it costs."""
        squares: FloatArray = self.squares.double().cpu().numpy()
        return by_rank(self.start, squares) if squares.any() else self.start.importance
