"""AC/DC: take turns between all weights and the largest units."""

from __future__ import annotations

import torch

from smartc.learning.learners.learner import Learner, LearnerInputs
from smartc.learning.learners.squares import layer_ranks, measured_weights, unit_squares
from smartc.masks.units import FloatArray

# Pairs of a dense and a compressed phase.
CYCLES = 4


class AcDc(Learner):
    """Take turns between all weights and the units that are largest then, as many of each layer.

    Source: AC/DC, arXiv 2106.12379.
    """

    share = 0.75

    def __init__(self, inputs: LearnerInputs) -> None:
        """Begin with everything kept."""
        super().__init__(inputs)
        self.measured = measured_weights(inputs.units)
        self.register_buffer("phase", torch.tensor(0), persistent=False)
        self.register_buffer("squares", torch.zeros(inputs.units.count), persistent=False)

    squares: torch.Tensor
    phase: torch.Tensor

    def soft(self, *weights: torch.Tensor) -> torch.Tensor:
        """Return the mask of the phase, and remember the sizes of the units."""
        with torch.no_grad():
            self.squares.copy_(unit_squares(self.inputs.units, self.measured, weights))
        return self.mask

    def advance(self, step: int) -> None:
        """Change phase at equal intervals."""
        phase = min(2 * CYCLES * step // max(self.inputs.steps, 1), 2 * CYCLES - 1)
        if phase != int(self.phase):
            self.phase.fill_(phase)
            dense = phase % 2 == 0
            self.set_mask(torch.from_numpy(self.inputs.budget.keep(self.priorities()) | dense))

    def priorities(self) -> FloatArray:
        """Return each unit's rank by size within its layer, whatever it costs."""
        squares: FloatArray = self.squares.double().cpu().numpy()
        if not squares.any():
            return self.inputs.importance
        ranks, cost = layer_ranks(self.inputs.units, squares), self.inputs.budget.cost
        return ranks if cost is None else ranks * cost
