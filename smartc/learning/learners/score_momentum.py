"""Momentum of the scores of masks, in steps relative to the mean gradient of all of them."""

from __future__ import annotations

import torch

from smartc.kernels.tensor_pool import MASK_POOL

# How much of what was found before stays: of the gradient's mean, and of the mean of its size.
MEAN, SIZE = 0.9, 0.999
# Where no unit has a gradient, none moves.
SMALLEST = 1e-30


class ScoreMomentum:
    """Adam with one size for all: the mean of the gradients' absolute values.

    Adam divides each gradient by its own size, so that a unit of little consequence, whose gradient is
    small and mostly chance, moves as far as one that matters.  What is between them is just what masks are
    to be learned from.

    Attributes:
        mean: Running mean of the gradient, shape (units,).
        size: Running mean of the size, shape ().
        steps: Steps taken, shape ().

    Source: Adam, arXiv 1412.6980; the common size is ours.
    """

    def __init__(self, scores: torch.Tensor, rate: float) -> None:
        """Take what is to be moved, and how far a step moves a unit whose gradient is of the mean size."""
        self.rate = rate
        self.mean = MASK_POOL.empty_like(scores).zero_()
        self.size = scores.new_zeros(())
        self.steps = torch.zeros(())

    def move(self, scores: torch.Tensor, gradient: torch.Tensor) -> None:
        """Move scores in place against their gradient."""
        self.steps += 1
        self.mean = self.mean.to(gradient).lerp_(gradient, 1 - MEAN)
        size = torch.linalg.vector_norm(gradient, 1) / max(gradient.numel(), 1)
        self.size = torch.lerp(size, self.size.to(gradient), SIZE)
        taken = float(self.steps)
        step = self.rate * (1 - SIZE**taken) / (1 - MEAN**taken)
        scores.addcmul_(self.mean, step / (self.size + SMALLEST), value=-1)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the tensors that the next step depends on."""
        return {"mean": self.mean, "size": self.size, "steps": self.steps}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take over what ``state`` returned."""
        self.mean, self.size, self.steps = (state[name].clone() for name in ("mean", "size", "steps"))
