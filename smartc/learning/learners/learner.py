"""Learners: where the masks of a search come from, behind one small interface."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from smartc.kernels.tensor_pool import MASK_POOL
from smartc.learning.budgets.unit_budget import UnitBudget
from smartc.masks.layouts import BoolArray
from smartc.masks.units import FloatArray, Units

# What is between these is neither kept nor removed yet.
FRACTIONAL = (0.05, 0.95)
# Units that stay in a core's cache while they are counted.
CACHED = 1 << 16


@dataclass(frozen=True, eq=False)
class LearnerInputs:
    """What a learner begins with.

    Attributes:
        units: What is masked.
        budget: What may stay.
        worth: Per unit what it is worth at the start; comparable between layers, 0 or more.
        steps: How many steps the search will take.
        gentle: Whether nothing takes up what masks do to the size of activations, as batch norms that
            learn do.
        few: Whether there are few samples to learn from.
    """

    units: Units
    budget: UnitBudget
    importance: FloatArray
    steps: int
    no_batch_norm: bool = False
    few: bool = False


class Learner(nn.Module):
    """The module in the masked graph that returns the flat mask over all units.

    Attributes:
        measured: The weights that it takes, by name.
        mask: What it returns once the search is over, 0 or 1 per unit.
    """

    mask: torch.Tensor
    measured: tuple[str, ...] = ()
    # How much of all steps goes to the search; the rest trains the weights that are left.
    share = 0.0
    # Whether masks find their way though the weights stay as they are.
    moves_alone = False

    def __init__(self, start: LearnerInputs) -> None:
        """Begin with everything kept."""
        super().__init__()
        self.start = start
        self.searching = True
        self.register_buffer("mask", MASK_POOL.empty_like(torch.empty(start.units.count)).fill_(1.0), persistent=False)

    def forward(self, *weights: torch.Tensor) -> torch.Tensor:
        """Return the mask, shape (units,)."""
        return self.soft(*weights) if self.searching else self.mask

    def soft(self, *weights: torch.Tensor) -> torch.Tensor:
        """Return the mask while the search goes on."""
        return self.mask

    @classmethod
    def share_for(cls, few: bool, channels: bool) -> float:
        """Return how much of all steps goes to a search with few samples, or for channels."""
        return cls.share

    @property
    def current_temperature(self) -> float | None:
        """Return the temperature of the soft masks; None where there is none."""
        return None

    @property
    def refits(self) -> bool:
        """Return whether the weights that are left are refitted to the dense model's activations after the search."""
        return False

    @property
    def met(self) -> float:
        """Return how much of the budget is met, 0 to 1."""
        return 0.0 if self.searching else 1.0

    def latest(self, *weights: torch.Tensor) -> torch.Tensor:
        """Return the mask of the step that was taken last, or one that differs by rounding."""
        return self(*weights)

    def settle(self) -> None:
        """Undo what another optimizer did to the learner's own parameters."""

    def advance(self, step: int) -> None:
        """Take note that so many steps of the search are done, and undo what another optimizer did."""

    def priorities(self) -> FloatArray:
        """Return per unit what it is worth now."""
        return self.start.importance

    def rank(self, order: FloatArray) -> None:
        """Let this order decide which units of a layer stay, the highest; NaN where it says nothing."""

    def harden(self) -> BoolArray:
        """End the search: keep what the budget allows, and return which units that are."""
        keep = self.start.budget.keep(self.priorities())
        self.searching = False
        self.set_mask(torch.from_numpy(keep))
        return keep

    def state(self) -> dict[str, torch.Tensor]:
        """Return what a checkpoint needs beside parameters and buffers."""
        return {}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take over what ``state`` returned."""

    def set_mask(self, mask: torch.Tensor) -> None:
        """Make these values the mask."""
        with torch.no_grad():
            self.mask.copy_(mask)


def fractional_share(mask: torch.Tensor) -> float:
    """Return the share of a mask that is neither kept nor removed."""
    low, high = FRACTIONAL
    count = 0.0
    for part in mask.split(CACHED):
        distance = (part - (low + high) / 2).abs_()
        # As numbers they are added up several times faster than as truths.
        count += float(torch.lt(distance, (high - low) / 2, out=distance).sum())
    return count / max(mask.numel(), 1)


def standard_scores(values: FloatArray) -> FloatArray:
    """Return values with mean 0 and standard deviation 1."""
    deviation = values.std()
    return (values - values.mean()) / (deviation if deviation > 0 else 1.0)
