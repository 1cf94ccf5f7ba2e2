"""Taylor: keep what the loss depends on most, to first order."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from smartc.learning.learners.learner import Learner, LearnerInputs
from smartc.masks.units import FloatArray


class Taylor(Learner):
    """Keep what the loss depends on most, to first order.

    The importance of a unit is the mean over some steps of ``(sum of weight x gradient)^2``, in each layer divided by
    the length of the vector of all: without that, whole layers are emptied.

    Source: Molchanov et al., arXiv 1906.10771; the lengths: arXiv 1611.06440, section 2.2.
    """

    share = 0.1
    moves_alone = True

    def __init__(self, inputs: LearnerInputs) -> None:
        """Begin without any gradient seen."""
        super().__init__(inputs)
        self.probe = nn.Parameter(torch.ones(inputs.units.count))
        self.register_buffer("total", torch.zeros(inputs.units.count, dtype=torch.float64), persistent=False)

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
        """Return the normalised squares, or the first importance where no gradient was seen."""
        total: FloatArray = self.total.cpu().numpy()
        if not total.any():
            return self.inputs.importance
        layer_of = self.inputs.units.layer_of
        lengths = np.sqrt(np.bincount(layer_of, total**2))[layer_of]
        return np.divide(total, lengths, out=np.zeros_like(total), where=lengths > 0)
