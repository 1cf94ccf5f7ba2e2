"""PDP: parameter-free masks, a soft step at a threshold of the weights' own size."""

from __future__ import annotations

import numpy as np
import torch

from smartc.learning.learners.learner import Learner, LearnerInputs
from smartc.learning.learners.squares import measured_weights, unit_squares
from smartc.masks.layouts import BoolArray

# The temperature in units of the squared threshold.  It falls, for with one temperature all along many
# masks would still lie between 0 and 1 when they are rounded.
SOFTEST, HARDEST = 0.2**2, 0.02**2
# The pruned share grows to its full value over this part of the search.
RAMP = 0.67


class Pdp(Learner):
    """Mask each unit by ``sigmoid((s^2 - t^2) / temperature)``, where s is the root mean square of its weights.

    The threshold t lies between the smallest s of a layer that is kept and the largest that is not; it
    is found anew at each step and is a constant for the gradient.

    Source: arXiv 2305.11203.
    """

    share = 0.7

    def __init__(self, inputs: LearnerInputs) -> None:
        """Take the final count of each layer, or of each group of N:M, from one ranking of all units."""
        super().__init__(inputs)
        self.measured = measured_weights(inputs.units)
        size = inputs.budget.group_size
        keep = inputs.budget.keep(inputs.importance)
        members = np.arange(inputs.units.count) // size if size else inputs.units.layer_of
        self.kept = np.bincount(members[keep], minlength=int(members.max(initial=-1)) + 1)
        self.lengths = np.bincount(members, minlength=len(self.kept))
        self.register_buffer("members", torch.from_numpy(members), persistent=False)
        self.register_buffer("squares", torch.zeros(inputs.units.count), persistent=False)
        self.register_buffer("progress", torch.tensor(0.0), persistent=False)

    members: torch.Tensor
    squares: torch.Tensor
    progress: torch.Tensor

    def soft(self, *weights: torch.Tensor) -> torch.Tensor:
        """Return the soft mask of the weights as they are."""
        squares = unit_squares(self.inputs.units, self.measured, weights)
        with torch.no_grad():
            self.squares.copy_(squares)
            threshold = self._thresholds(self.squares)
        softness = SOFTEST * (HARDEST / SOFTEST) ** self.progress
        return torch.sigmoid((squares - threshold) / (softness * threshold).clamp_min(1e-30))

    def _thresholds(self, squares: torch.Tensor) -> torch.Tensor:
        """Return the squared threshold of each unit's layer or group."""
        ordered, ends = self._ordered(squares)
        removed = (self.lengths - self.kept) * min(float(self.progress) / RAMP, 1.0)
        first = torch.from_numpy(self.lengths - np.round(removed).astype(np.int64)).to(squares.device)
        starts = ends - torch.from_numpy(self.lengths).to(ends)
        last_kept = (starts + first - 1).clamp(starts, ends - 1)
        first_gone = (starts + first).clamp(max=len(ordered) - 1)
        edge = (ordered[last_kept].sqrt() + ordered[first_gone].sqrt()) / 2
        none = first >= torch.from_numpy(self.lengths).to(first)
        return torch.where(none, 0.0, edge**2)[self.members]

    def _ordered(self, squares: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the squares of each layer in falling order, one layer after another, and where each ends."""
        by_size = squares.argsort(descending=True, stable=True)
        order = by_size[self.members[by_size].argsort(stable=True)]
        return squares[order], torch.from_numpy(np.cumsum(self.lengths)).to(squares.device)

    def advance(self, step: int) -> None:
        """Let the pruned share grow."""
        self.progress.fill_(min(step / max(self.inputs.steps, 1), 1.0))

    def harden(self) -> BoolArray:
        """Keep the largest units of each layer."""
        squares = self.squares.double().cpu().numpy()
        members = self.members.cpu().numpy()
        order = np.lexsort((-squares, members))
        rank = np.arange(len(order)) - np.repeat(np.cumsum(self.lengths) - self.lengths, self.lengths)
        keep = np.zeros(len(order), dtype=bool)
        keep[order] = rank < np.repeat(self.kept, self.lengths)
        self.searching = False
        self.set_mask(torch.from_numpy(keep))
        return keep
