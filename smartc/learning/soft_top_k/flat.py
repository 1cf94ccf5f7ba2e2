"""The soft top-k of one budget over a long vector on the CPU, a chunk that stays in cache at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from smartc.kernels.training.compiled import serves
from smartc.kernels.training.long_rows import (
    follow_slopes,
    gradient_sums,
    score_gradient,
    soft_indicators,
    sum_of_costs,
)
from smartc.learning.soft_top_k.root import MOST_PASSES, REACH, Bracket, TopKBudget, critical_scores, search_one

# Elements per chunk and thread: three times so many fit into a core's second-level cache, and calls cost little.
CHUNK = 131_072
# Rows of this length are summed in their own type, their sums in float64: measured for ties, within 1.5e-7.
SUM_ROW = 128
# What rounding leaves of a budget, relative: float32 holds a sigmoid to 6e-8 and its sum to 1.5e-7.
TOLERANCES = {torch.float32: 2.4e-7, torch.float64: 4e-15}
# A sigmoid is a straight line up to rounding for so long: its second derivative is at most 0.1.
STRAIGHT = {torch.float32: 5e-4, torch.float64: 2e-8}
# Passes before a warm start counts as failed: a good one takes one or two.
WARM = Bracket(0.0, math.inf, 8)
# Shorter rows take so little time that kernels are not compiled for them.
LONG = 1 << 16
# Up to this far an evaluated sigmoid is moved instead of computed again.
SMALL_MOVE = 0.25

_Update = Callable[[Tensor, Tensor, Tensor], None]


@dataclass(frozen=True)
class FlatTopK:
    """One budget over all units.

    Attributes:
        scores: Shape (units,), contiguous, float32 or float64.
        cost: The same, or None for one each.
        temperature: In units of score.
        sign: -1 to solve for the opposite of the scores.
    """

    scores: Tensor
    cost: Tensor | None
    temperature: float
    sign: float = 1.0

    def solve(self, amount: float, total: float, start: float, soft: Tensor) -> float:
        """Write the soft indicators and return the threshold in units of score, NaN where none is found.

        Where most is kept, it is found by what is left out: the sum of so many ones would drown that in rounding.

        Args:
            amount: Strictly between zero and the total.
            total: Sum of the costs; NaN if one is not positive and finite.
            start: A threshold to begin at, NaN for none.
            soft: Where to write, of the shape of the scores.
        """
        if amount > total / 2:
            threshold = replace(self, sign=-self.sign).solve(total - amount, total, start, soft)
            torch.sub(soft.new_ones(()), soft, out=soft)
            return threshold
        kind = self.scores.dtype
        budget = TopKBudget(amount, total, TOLERANCES[kind], STRAIGHT[kind])
        threshold = self._warm(soft, budget, start)
        if math.isnan(threshold) and self.scores.isfinite().all():
            anchor, first = self._critical_score(amount)
            threshold = self._search(soft, budget, anchor, Bracket(first, REACH, MOST_PASSES))
        return threshold

    def _warm(self, soft: Tensor, budget: TopKBudget[float], start: float) -> float:
        """Search from a threshold, again from the one found if that is far away; return what ``solve`` does."""
        for _ in range(2):
            # Rounded to the scores' type, it is subtracted from the scores that matter without error.
            anchor = soft.new_tensor(start).item()
            start = math.nan if math.isnan(anchor) else self._search(soft, budget, anchor, WARM)
            # Far away the shift, in the scores' type, would not be exact enough.
            if not abs(start - anchor) > REACH * self.temperature:
                return start
        return math.nan

    def _search(self, soft: Tensor, budget: TopKBudget[float], anchor: float, bracket: Bracket[float]) -> float:
        """Search about an anchor; return what ``solve`` does."""
        sums = (_KernelSums if _has_kernel(self.scores, self.cost, soft) else _FlatSums)(self, anchor, soft)
        shift, solved = search_one(sums, budget, bracket)
        if not solved:
            return math.nan
        missing = budget.amount - sums.spent
        if budget.tolerance * budget.amount < abs(missing) <= budget.straight * sums.slope:
            # So little is spent along straight lines.
            move = missing / sums.slope
            sums.follow(move)
            shift += move
        return anchor - shift * self.temperature * self.sign

    def _critical_score(self, amount: float) -> tuple[float, float]:
        """Return the score about which the root is, and a first shift."""
        cost = None if self.cost is None else self.cost[:, None]
        wanted, temperature = torch.tensor([amount, self.temperature], dtype=torch.float64)
        score, first = critical_scores(self.scores[:, None] * self.sign, cost, wanted, temperature)
        return score.item() * self.sign, first.item()


class _FlatSums:
    """The sums at a shift, whose soft indicators it leaves in ``soft``."""

    def __init__(self, problem: FlatTopK, anchor: float, soft: Tensor) -> None:
        self.anchor, self.per_temperature, self.soft = anchor, problem.sign / problem.temperature, soft
        self.shift = self.spent = self.slope = math.nan
        self.buffer = _buffer(soft)
        self.chunks = list(_chunks(problem.scores, problem.cost, soft))

    def __call__(self, shift: float) -> tuple[float, float]:
        """Return what is spent and its slope."""
        move, self.shift = shift - self.shift, shift
        update = self._mover(move) if abs(move) <= SMALL_MOVE else self._evaluator()
        spent = square = 0.0
        for x, c, f in self.chunks:
            buffer = self.buffer[: f.numel()]
            update(x, f, buffer)
            paid = f if c is None else torch.mul(f, c, out=buffer)
            spent += _sum(paid)
            square += torch.dot(paid, f).item()
        self.spent, self.slope = spent, spent - square
        return self.spent, self.slope

    def follow(self, move: float) -> None:
        """Move the soft indicators along straight lines."""
        for _, _, f in self.chunks:
            f.lerp_(torch.mul(f, f, out=self.buffer[: f.numel()]), -move)

    def _evaluator(self) -> _Update:
        """Return what computes a chunk.

        The anchor is subtracted first, which is exact for the scores that matter, however large they are.
        """
        offset = self.soft.new_tensor(self.shift)

        def evaluate(x: Tensor, f: Tensor, buffer: Tensor) -> None:
            torch.sub(x, self.anchor, out=f)
            torch.add(offset, f, alpha=self.per_temperature, out=f).sigmoid_()

        return evaluate

    def _mover(self, move: float) -> _Update:
        """Return what moves a chunk: the sigmoid of ``x + d`` is ``f / (f + (1 - f) exp(-d))``, f that of ``x``."""
        # The move is rounded, by less than the soft indicators are, so that one minus this is exact: then 1 stays 1.
        unit = 2 * torch.finfo(self.soft.dtype).eps
        slope = round(-math.expm1(-move) / unit) * unit
        offset = self.soft.new_tensor(1 - slope)

        def move_by(x: Tensor, f: Tensor, buffer: Tensor) -> None:
            f.div_(torch.add(offset, f, alpha=slope, out=buffer))

        return move_by


class _KernelSums:
    """The same by kernels, in one pass over memory."""

    def __init__(self, problem: FlatTopK, anchor: float, soft: Tensor) -> None:
        self.scores, self.cost, self.soft = problem.scores, problem.cost, soft
        self.anchor, self.per_temperature = anchor, problem.sign / problem.temperature
        self.spent = self.slope = math.nan

    def __call__(self, shift: float) -> tuple[float, float]:
        """Return what is spent and its slope."""
        given = self.anchor, self.per_temperature, shift
        self.spent, square = soft_indicators(self.scores, self.cost, *given, self.soft)
        self.slope = self.spent - square
        return self.spent, self.slope

    def follow(self, move: float) -> None:
        """Move the soft indicators along straight lines."""
        follow_slopes(self.soft, move)


def _has_kernel(*tensors: Tensor | None) -> bool:
    """Return whether kernels can do it, and would soon have saved the time to compile them."""
    present = [tensor for tensor in tensors if tensor is not None]
    return present[0].numel() >= LONG and serves(*present)


def flat_gradient(soft: Tensor, cost: Tensor | None, temperature: float, incoming: Tensor, outgoing: Tensor) -> None:
    """Write the gradient of the scores, through the threshold as well; all tensors of shape (units,)."""
    share = _share(soft, cost, incoming)
    if _has_kernel(soft, cost, incoming, outgoing):
        score_gradient(soft, cost, incoming, share, 1 / temperature, outgoing)
        return
    offset = soft.new_tensor(-share / temperature)
    for f, g, c, out in _chunks(soft, incoming, cost, outgoing):
        if c is None:
            torch.add(offset, g, alpha=1 / temperature, out=out)
        else:
            torch.add(g, c, alpha=-share, out=out).div_(temperature)
        torch.ops.aten.sigmoid_backward.grad_input(out, f, grad_input=out)


def _share(soft: Tensor, cost: Tensor | None, incoming: Tensor) -> float:
    """Return what a unit of cost gains, by which the others' gradients are less."""
    if _has_kernel(soft, cost, incoming):
        along, spread = gradient_sums(soft, cost, incoming)
        return along / spread if spread else 0.0
    along = spread = 0.0
    buffer = _buffer(soft)
    for f, g, c in _chunks(soft, incoming, cost):
        slope = torch.addcmul(f, f, f, value=-1, out=buffer[: f.numel()])
        along += torch.dot(slope, g).item()
        spread += slope.sum().item() if c is None else torch.dot(slope, c).item()
    # Without slope there is nothing to share out: every unit is fully in or out.
    return along / spread if spread else 0.0


def total_cost(cost: Tensor) -> float:
    """Return the sum in float64, NaN where a cost is not positive and finite."""
    if _has_kernel(cost):
        total = sum_of_costs(cost)
        return total if total < math.inf else math.nan
    total, least = 0.0, math.inf
    for (part,) in _chunks(cost):
        total += _sum(part)
        least = min(least, part.min().item())
    return total if least > 0 and total < math.inf else math.nan


def _chunks(*tensors: Tensor | None) -> Iterator[tuple[Any, ...]]:
    """Yield the tensors a chunk at a time, for as many threads as there are; None stays None."""
    chunk = CHUNK * torch.get_num_threads()
    count = math.ceil(next(tensor.numel() for tensor in tensors if tensor is not None) / chunk)
    return zip(*([None] * count if tensor is None else tensor.split(chunk) for tensor in tensors), strict=True)


def _buffer(like: Tensor) -> Tensor:
    """Return room for a chunk."""
    return like.new_empty(min(CHUNK * torch.get_num_threads(), like.numel()))


def _sum(values: Tensor) -> float:
    """Return the sum in float64."""
    if values.numel() % SUM_ROW:
        return values.sum(dtype=torch.float64).item()
    return values.view(-1, SUM_ROW).sum(1).sum(dtype=torch.float64).item()
