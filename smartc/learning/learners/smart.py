"""SMART: masks of their own, learned with the weights by a differentiable top-k whose temperature falls."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from smartc.analysis.channels.labels import IntArray
from smartc.core.errors import UserError
from smartc.kernels.tensor_pool import MASK_POOL
from smartc.learning.budgets.channel_budget import ChannelBudget
from smartc.learning.learners.learner import Learner, LearnerInputs, standard_scores
from smartc.learning.learners.score_momentum import ScoreMomentum
from smartc.learning.soft_top_k.soft_top_k import soft_top_k
from smartc.masks.units import FloatArray

# How much of all steps goes to the search with few samples, and for channels, which miss the steps that would train.
SHARE_OF_FEW, SHARE_OF_CHANNELS = 0.05, 0.01
# In standard deviations of the first scores: at the start all units compete, at the end next to none.
HOTTEST, COLDEST = 1.0, 1e-3
# Of channels, whose scores a short search leaves close together.
COLDEST_OF_CHANNELS = 1e-4
# Where many masks between 0 and 1 would shrink all activations, only a tenth compete at a time.
GENTLE_HOTTEST = 0.1
# A gradient of the mean size can carry a score so many standard deviations over the whole search.
REACH = 10.0
SLOWEST, FASTEST = 1e-2, 5e-2
# The same for channels, and for single weights: what a gradient tells of these weighs less than their size.
REACH_OF_CHANNELS = REACH_OF_PATTERNS = 0.1
# A few samples must not carry scores far from where the weights put them.
GENTLE_FASTEST = 1e-2
# The budget tightens over this part of the search, so that the network can follow.
TIGHTENING, GENTLE_TIGHTENING = 0.5, 0.7
# Costs are priced anew so many times over a search.
PRICINGS = 50
# What is multiplied by less is multiplied by zero: gradients that such masks have multiplied would else be numbers
# below the smallest normal one, with which processors compute many times slower.
NEXT_TO_ZERO = 1e-9
# A mask serves a few steps, since those that it stays for cost little more than steps without masks: so many at
# least, where a search is long until masks have moved so often, and so many at most.
SHORTEST_HOLD, MOVES = 2, 100
# The same for N:M, where there are as many masks as weights.
SHORTEST_HOLD_OF_PATTERNS, MOVES_OF_PATTERNS = 3, 40
LONGEST_HOLD = 8
# In a search of fewer steps masks move at each.
SHORTEST_SEARCH = 30


class Smart(Learner):
    """Learn a score per unit; the budget is built into the mask.

    Source: arXiv 2403.19969; budgets in costs, and their tightening, are ours.
    """

    share = 0.35
    moves_alone = True

    def __init__(self, start: LearnerInputs) -> None:
        """Begin with scores in the order of what the units are worth for their cost."""
        super().__init__(start)
        scores = MASK_POOL.copy(torch.from_numpy(first_scores(start)).float())
        self.scores = nn.Parameter(scores)
        # A copy of its own: the user's optimizer may be given the parameter, too.
        self.values = MASK_POOL.copy(scores)
        self.hottest = GENTLE_HOTTEST if start.no_batch_norm else HOTTEST
        self.coldest = COLDEST_OF_CHANNELS if start.units.granularity.kind == "channel" else COLDEST
        self.tightening = GENTLE_TIGHTENING if start.no_batch_norm else TIGHTENING
        self.register_buffer("temperature", torch.tensor(self.hottest), persistent=False)
        self.register_buffer("limit", torch.tensor(0.0, dtype=torch.float64), persistent=False)
        cost = start.budget.cost
        self.register_buffer("cost", None if cost is None else torch.from_numpy(cost).float(), persistent=False)
        size = start.budget.group_size
        roots = torch.full((start.units.count // size,) if size else (), torch.nan)
        self.register_buffer("threshold", roots, persistent=False)
        self.hold = _hold(start)
        # Whether the mask of an earlier step serves.
        self.held = False
        self.momentum = ScoreMomentum(self.values, _rate(start) * self.hold)
        self.advance(0)

    temperature: torch.Tensor
    limit: torch.Tensor
    cost: torch.Tensor | None
    threshold: torch.Tensor

    @classmethod
    def share_for(cls, few: bool, channels: bool) -> float:
        """Return less for few samples, which soon tell no more than chance, and for channels, which are few."""
        if few:
            return SHARE_OF_FEW
        return SHARE_OF_CHANNELS if channels else cls.share

    @property
    def refits(self) -> bool:
        """Return whether the search is too short for the weights to follow it: they make up for whole channels."""
        return self.start.units.granularity.kind == "channel"

    @property
    def current_temperature(self) -> float:
        """Return the temperature, in standard deviations of the first scores."""
        return float(self.temperature)

    @property
    def met(self) -> float:
        """Return how far the budget has tightened."""
        return 1 - self.loose if self.searching else 1.0

    def soft(self, *weights: torch.Tensor) -> torch.Tensor:
        """Return the soft mask, which meets the budget of the moment exactly."""
        if self.held:
            return self.mask
        # An evaluation leaves no trace: it may see scores that another optimizer has moved, and that are not settled.
        learning, size = torch.is_grad_enabled(), self.start.budget.group_size
        start = self.threshold if learning else self.threshold.clone()
        if size:
            rows = self.scores.view(-1, size)
            mask = soft_top_k(rows, self.limit, self.temperature, dim=-1, start=start).view(-1)
        else:
            mask = soft_top_k(self.scores, self.limit, self.temperature, self.cost, start=start)
        mask = _without_traces(mask)
        if learning:
            self.set_mask(mask)
        return mask

    def latest(self, *weights: torch.Tensor) -> torch.Tensor:
        """Return the mask of the step that was taken last."""
        return self.mask

    def settle(self) -> None:
        """Undo what another optimizer did to the scores."""
        self._follow_device()
        with torch.no_grad():
            self.scores.copy_(self.values)

    def advance(self, step: int) -> None:
        """Move the scores by their gradient, lower the temperature, tighten the budget."""
        if step and self.scores.grad is None and not self.held:
            fix = "Call search.step() after loss.backward(), and before the gradients are set to zero"
            raise UserError("the masks have no gradient", where=f"step {step}", fix=fix)
        self._follow_device()
        if self.scores.grad is not None:
            self.momentum.move(self.values, self.scores.grad)
            self.scores.grad = None
        self.held = step % self.hold != 0 and step < self.start.steps
        if not self.held:
            self.settle()
        progress = min(step / max(self.start.steps, 1), 1.0)
        self.temperature.fill_(self.hottest * (self.coldest / self.hottest) ** progress)
        if self.cost is not None and step and step % max(self.start.steps // PRICINGS, 1) == 0:
            self._reprice(self.cost)
        budget = self.start.budget
        whole = float(budget.group_size or (self.start.units.count if budget.cost is None else budget.cost.sum()))
        self.loose = (1 - min(progress / self.tightening, 1.0)) ** 3
        self.limit.fill_(budget.limit + (whole - budget.limit) * self.loose)

    def _follow_device(self) -> None:
        """Move what is no parameter or buffer to where the model was moved, before the first step."""
        self.values = self.values.to(self.scores.device)

    def _reprice(self, cost: torch.Tensor) -> None:
        """Price the units at the mask of the moment."""
        with torch.no_grad():
            self.start.budget.reprice(self.soft().double().cpu().numpy())
        assert self.start.budget.cost is not None
        cost.copy_(torch.from_numpy(self.start.budget.cost))
        self.threshold.fill_(torch.nan)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the scores, their momentum and the prices of the moment."""
        own = {f"momentum.{name}": value for name, value in self.momentum.state().items()}
        cost = self.start.budget.cost
        # As they are, in float64: another rounding of the prices could keep other units.
        prices = {} if cost is None else {"cost": torch.from_numpy(cost)}
        held, loose = torch.tensor(self.held), torch.tensor(self.loose, dtype=torch.float64)
        limit = torch.tensor(self.start.budget.limit, dtype=torch.float64)
        return {**own, **prices, "values": self.values, "budget": limit, "held": held, "loose": loose}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take over the scores, their momentum and the prices."""
        with torch.no_grad():
            self.values.copy_(state["values"])
        self.momentum.restore({name.removeprefix("momentum."): value for name, value in state.items()})
        self.start.budget.limit, self.loose = float(state["budget"]), float(state["loose"])
        self.held = bool(state["held"])
        if self.cost is not None:
            self.start.budget.cost = state["cost"].numpy()

    def rank(self, order: FloatArray) -> None:
        """Make an order the scores."""
        known = torch.from_numpy(order).to(self.values)
        with torch.no_grad():
            self.values.copy_(torch.where(known.isnan(), self.values, known))

    def priorities(self) -> FloatArray:
        """Return what makes a knapsack keep the units of the highest scores: a rising function of these, per cost.

        Of channels scores tell which, but not how many: what remains of a layer takes over, which a short
        search does not see, and the first worth does.
        """
        scores = self.values.double().cpu().numpy()
        if isinstance(self.start.budget, ChannelBudget):
            return _handed_out(self.start.importance, scores, self.start.units.layer_of)
        rising = np.logaddexp(0.0, scores - np.median(scores))
        return rising if self.start.budget.cost is None else rising * self.start.budget.cost


def _without_traces(mask: torch.Tensor) -> torch.Tensor:
    """Return a mask with zeros for what is next to zero, and next to zero is its gradient there."""
    if torch.compiler.is_compiling():
        return functional.threshold(mask, NEXT_TO_ZERO, 0.0)
    cleared: torch.Tensor = _WithoutTraces.apply(mask)
    return cleared


class _WithoutTraces(torch.autograd.Function):
    """Clear what is next to zero; the gradient is left as it is, which takes no pass over memory."""

    @staticmethod
    def forward(ctx: Any, mask: torch.Tensor) -> torch.Tensor:
        """Return the cleared mask."""
        cleared = MASK_POOL.empty_like(mask)
        torch.ops.aten.threshold.out(mask, NEXT_TO_ZERO, 0.0, out=cleared)
        return cleared

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        """Return the gradient."""
        return gradients[0]


def _hold(start: LearnerInputs) -> int:
    """Return for how many steps a mask serves; channels cost next to nothing, and with few samples masks move alone."""
    if start.few or start.units.granularity.kind == "channel" or start.steps < SHORTEST_SEARCH:
        return 1
    patterns = start.units.granularity.kind == "n:m"
    shortest, moves = (SHORTEST_HOLD_OF_PATTERNS, MOVES_OF_PATTERNS) if patterns else (SHORTEST_HOLD, MOVES)
    return min(max(start.steps // moves, shortest), LONGEST_HOLD)


def _rate(start: LearnerInputs) -> float:
    """Return how far a step moves a score whose gradient is of the mean size."""
    steps, fastest = max(start.steps, 1), GENTLE_FASTEST if start.no_batch_norm else FASTEST
    slow = {"channel": REACH_OF_CHANNELS, "n:m": REACH_OF_PATTERNS}.get(start.units.granularity.kind)
    return min(max(REACH / steps, SLOWEST) if slow is None else slow / steps, fastest)


def _handed_out(importance: FloatArray, scores: FloatArray, layer_of: IntArray) -> FloatArray:
    """Return the worths of each layer's units in the order of the scores, the highest to the highest."""
    handed = np.empty_like(importance)
    handed[np.lexsort((scores, layer_of))] = importance[np.lexsort((importance, layer_of))]
    return handed


def first_scores(start: LearnerInputs) -> FloatArray:
    """Return scores of mean 0 and deviation 1.

    They are the logarithm of what each unit is worth for its cost; of channels, whose costs depend on each
    other, the order in which knapsacks for ever tighter budgets let them go.
    """
    if isinstance(start.budget, ChannelBudget):
        return standard_scores(start.budget.order(start.importance))
    smallest = start.importance[start.importance > 0].min(initial=1.0)
    importance = np.log(np.maximum(start.importance, smallest))
    if start.budget.cost is not None:
        importance -= np.log(start.budget.cost)
    return standard_scores(importance)
