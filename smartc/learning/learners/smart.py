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
from smartc.learning.learners.importance import ImportanceInputs, lamp_importance
from smartc.learning.learners.learner import Learner, LearnerInputs, standard_scores
from smartc.learning.learners.schedule import Schedule
from smartc.learning.learners.score_momentum import ScoreMomentum
from smartc.learning.soft_top_k.soft_top_k import soft_top_k
from smartc.masks.units import FloatArray

# Where the outputs are not sensitive to a unit, it counts as this share of the mean sensitivity.
LEAST_SENSITIVITY = 1e-6
# Costs are priced anew this number of times over a search.
PRICINGS = 50
# What is multiplied by less is multiplied by zero: gradients that such masks have multiplied would else be numbers
# below the smallest normal one, with which processors compute many times slower.
NEXT_TO_ZERO = 1e-9


class Smart(Learner):
    """Learn a score per unit; the budget is built into the mask.

    Source: arXiv 2403.19969; budgets in costs, and their tightening, are ours.
    """

    moves_alone = True

    def __init__(self, inputs: LearnerInputs) -> None:
        """Begin with scores in the order in which ever tighter budgets let units go."""
        super().__init__(inputs)
        first = standard_scores(inputs.budget.order(inputs.importance))
        scores = MASK_POOL.copy(torch.from_numpy(first).float())
        self.scores = nn.Parameter(scores)
        # A copy of its own: the user's optimizer may be given the parameter, too.
        self.values = MASK_POOL.copy(scores)
        self.schedule = inputs.schedule
        self.register_buffer("temperature", torch.tensor(self.schedule.hottest), persistent=False)
        self.register_buffer("limit", torch.tensor(0.0, dtype=torch.float64), persistent=False)
        cost = inputs.budget.cost
        self.register_buffer("cost", None if cost is None else torch.from_numpy(cost).float(), persistent=False)
        size = inputs.budget.group_size
        roots = torch.full((inputs.units.count // size,) if size else (), torch.nan)
        self.register_buffer("threshold", roots, persistent=False)
        self.hold = self.schedule.hold(inputs.steps)
        # Whether the mask of an earlier step serves.
        self.held = False
        self.momentum = ScoreMomentum(self.values, self.schedule.score_rate(inputs.steps) * self.hold)
        self.advance(0)

    temperature: torch.Tensor
    limit: torch.Tensor
    cost: torch.Tensor | None
    threshold: torch.Tensor

    @classmethod
    def first_importance(cls, known: ImportanceInputs) -> FloatArray:
        """Return the LAMP scores; where the sensitivity of the outputs was measured, its geometric mean with them.

        The sensitivity tells which layers matter, the score what is left of a layer takes over.
        """
        importance = lamp_importance(known, known.calibration.variances)
        if known.calibration.sensitivity_of is None:
            return importance
        sensitivity = known.calibration.sensitivity_of(known.units)
        least = LEAST_SENSITIVITY * sensitivity.mean()
        return np.asarray(np.sqrt(importance * np.maximum(sensitivity, least)), dtype=np.float64)

    @classmethod
    def share_for(cls, schedule: Schedule) -> float:
        """Return the part of all steps that the schedule gives to the search."""
        return schedule.share

    @property
    def refits(self) -> bool:
        """Return whether the search is too short for the weights to follow it: they make up for whole channels."""
        return self.schedule.refits

    @property
    def current_temperature(self) -> float:
        """Return the temperature, in standard deviations of the first scores."""
        return float(self.temperature)

    @property
    def met(self) -> float:
        """Return the share of the budget that is met, 0 to 1: it tightens as the search goes."""
        return 1 - self.loose if self.searching else 1.0

    def soft(self, *weights: torch.Tensor) -> torch.Tensor:
        """Return the soft mask, which meets the budget of the step exactly."""
        if self.held:
            return self.mask
        # An evaluation leaves no trace: it may see scores that another optimizer has moved, and that are not settled.
        learning, size = torch.is_grad_enabled(), self.inputs.budget.group_size
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
        self.held = step % self.hold != 0 and step < self.inputs.steps
        if not self.held:
            self.settle()
        progress = min(step / max(self.inputs.steps, 1), 1.0)
        hottest, coldest = self.schedule.hottest, self.schedule.coldest
        self.temperature.fill_(hottest * (coldest / hottest) ** progress)
        if self.cost is not None and step and step % max(self.inputs.steps // PRICINGS, 1) == 0:
            self._reprice(self.cost)
        budget = self.inputs.budget
        whole = float(budget.group_size or (self.inputs.units.count if budget.cost is None else budget.cost.sum()))
        self.loose = (1 - min(progress / self.schedule.tightening, 1.0)) ** 3
        self.limit.fill_(budget.limit + (whole - budget.limit) * self.loose)

    def _follow_device(self) -> None:
        """Move what is no parameter or buffer to where the model was moved, before the first step."""
        self.values = self.values.to(self.scores.device)

    def _reprice(self, cost: torch.Tensor) -> None:
        """Price the units at the present mask."""
        with torch.no_grad():
            self.inputs.budget.reprice(self.soft().double().cpu().numpy())
        assert self.inputs.budget.cost is not None
        cost.copy_(torch.from_numpy(self.inputs.budget.cost))
        self.threshold.fill_(torch.nan)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the scores, their momentum and the present prices."""
        own = {f"momentum.{name}": value for name, value in self.momentum.state().items()}
        cost = self.inputs.budget.cost
        # As they are, in float64: another rounding of the prices could keep other units.
        prices = {} if cost is None else {"cost": torch.from_numpy(cost)}
        held, loose = torch.tensor(self.held), torch.tensor(self.loose, dtype=torch.float64)
        limit = torch.tensor(self.inputs.budget.limit, dtype=torch.float64)
        return {**own, **prices, "values": self.values, "budget": limit, "held": held, "loose": loose}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take over the scores, their momentum and the prices."""
        with torch.no_grad():
            self.values.copy_(state["values"])
        self.momentum.restore({name.removeprefix("momentum."): value for name, value in state.items()})
        self.inputs.budget.limit, self.loose = float(state["budget"]), float(state["loose"])
        self.held = bool(state["held"])
        if self.cost is not None:
            self.inputs.budget.cost = state["cost"].numpy()

    def rank(self, order: FloatArray) -> None:
        """Make an order the scores."""
        known = torch.from_numpy(order).to(self.values)
        with torch.no_grad():
            self.values.copy_(torch.where(known.isnan(), self.values, known))

    def priorities(self) -> FloatArray:
        """Return a rising function of the scores times the cost, so that a knapsack keeps the highest scores.

        Where the first importance decides how many units of a layer stay, it is handed out by the scores.
        """
        scores = self.values.double().cpu().numpy()
        if self.schedule.counts_by_first_importance:
            return _handed_out(self.inputs.importance, scores, self.inputs.units.layer_of)
        rising = np.logaddexp(0.0, scores - np.median(scores))
        return rising if self.inputs.budget.cost is None else rising * self.inputs.budget.cost


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


def _handed_out(importance: FloatArray, scores: FloatArray, layer_of: IntArray) -> FloatArray:
    """Return the importance of each layer's units in the order of the scores, the highest to the highest."""
    handed = np.empty_like(importance)
    handed[np.lexsort((scores, layer_of))] = importance[np.lexsort((importance, layer_of))]
    return handed
