"""The soft top-k of many small budgets side by side, or of one on a GPU: whole tensors, a column per budget."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from smartc.learning.soft_top_k.root import MOST_PASSES, REACH, Bracket, TopKBudget, critical_scores, newton, search

# Columns of so few units are computed in float32, longer ones in float64, so that their sums are exact enough.
SHORT_COLUMN = 32
# What rounding leaves of a budget, relative: the worst sum of SHORT_COLUMN float32 numbers is off by 3e-7.
TOLERANCES = {torch.float32: 5e-7, torch.float64: 4e-15}
# Sigmoids are followed along straight lines for so long: as their second derivatives are smaller than they are, what
# that spends is off by half the square of this, relative.
STRAIGHT = {torch.float32: 1e-3, torch.float64: 5e-8}
# Log-odds beyond these are taken for these: what is left of a sigmoid there is below rounding, also after a shift as
# far as REACH, and what is far below it would be slow to compute with.
FARTHEST = {torch.float32: 60.0, torch.float64: 85.0}
# Newton steps of all columns: from a good start they are enough for most.
FIRST_PASSES = 2
# Newton steps of the others before these count as failed.
NEWTON_PASSES = 6


@dataclass(frozen=True)
class ColumnTopK:
    """A budget for each column; a NaN anywhere in a column leaves it unsolved.

    Attributes:
        scores: Shape (units, columns), float32 for short columns, else float64.
        cost: The same shape and type, or None for one each.
        amount: Shape (columns,), or (1,) for all, float64, each strictly between zero and the column's total.
        total: Sums of the costs, of the same shape, float64.
        temperature: Shape (), float64, in units of score.
    """

    scores: Tensor
    cost: Tensor | None
    amount: Tensor
    total: Tensor
    temperature: Tensor

    def solve(self, start: Tensor) -> ColumnRoots:
        """Solve from thresholds of shape (columns,), NaN for none; what fails is solved afresh in float64."""
        if bool(start.isnan().all()):
            return self._only(torch.arange(len(start), device=start.device), torch.float64)._solve_afresh()
        roots = self._newton(start, self.scores.new_zeros(len(start)), FIRST_PASSES)
        if roots.solved is None:
            return roots
        failed = (~roots.solved).nonzero()[:, 0]
        roots.replace(failed, self._only(failed, self.scores.dtype)._solve_longer(roots.threshold[failed]))
        return roots

    def _solve_longer(self, start: Tensor) -> ColumnRoots:
        """Solve from thresholds that are close for most."""
        roots = self._newton(start, self.scores.new_zeros(len(start)), NEWTON_PASSES)
        if roots.solved is not None:
            failed = (~roots.solved).nonzero()[:, 0]
            roots.replace(failed, self._only(failed, torch.float64)._solve_afresh())
        return roots

    def _solve_afresh(self) -> ColumnRoots:
        """Solve from the critical scores; within a bracket what fails."""
        anchor, first = critical_scores(self.scores, self.cost, self.amount, self.temperature)
        roots = self._newton(anchor, first, NEWTON_PASSES)
        if roots.solved is not None:
            failed = (~roots.solved).nonzero()[:, 0]
            roots.replace(failed, self._only(failed, torch.float64)._search(anchor[failed], first[failed]))
        return roots

    def _only(self, columns: Tensor, kind: torch.dtype) -> ColumnTopK:
        """Return some of the columns, in a type."""
        cost = None if self.cost is None else self.cost[:, columns].to(kind)
        amount, total = (each if len(each) == 1 else each[columns] for each in (self.amount, self.total))
        return ColumnTopK(self.scores[:, columns].to(kind), cost, amount, total, self.temperature)

    def _newton(self, anchor: Tensor, first: Tensor, passes: int) -> ColumnRoots:
        """Take Newton steps about an anchor, the last along a straight line."""
        sums = _ColumnSums(self, anchor)
        shift, move, close = newton(sums, self._budget(), first, passes)
        sums.settle(move)
        return self._roots(sums, shift + move, close)

    def _search(self, anchor: Tensor, first: Tensor) -> ColumnRoots:
        """Search within reach of an anchor."""
        sums = _ColumnSums(self, anchor)
        return self._roots(sums, *search(sums, self._budget(), Bracket(first, REACH, MOST_PASSES)))

    def _budget(self) -> TopKBudget[Tensor]:
        """Return the budget in the scores' type."""
        kind = self.scores.dtype
        return TopKBudget(self.amount.to(kind), self.total.to(kind), TOLERANCES[kind], STRAIGHT[kind])

    def _roots(self, sums: _ColumnSums, shift: Tensor, solved: Tensor | None) -> ColumnRoots:
        """Return the roots at shifts; far from the anchor these are not exact enough."""
        anchor = sums.anchor
        threshold = anchor - shift.to(anchor.dtype) * self.temperature.to(anchor.dtype)
        if solved is None and bool(shift.abs().amax() <= REACH):
            return ColumnRoots(sums.soft, threshold, None)
        near = shift.abs() <= REACH
        return ColumnRoots(sums.soft, threshold, near if solved is None else near & solved)


@dataclass(frozen=True)
class ColumnRoots:
    """What solves a problem.

    Attributes:
        soft: The soft indicators, shape (units, columns).
        threshold: In units of score, shape (columns,).
        solved: Which columns are right, shape (columns,); None where all are.
    """

    soft: Tensor
    threshold: Tensor
    solved: Tensor | None

    def replace(self, columns: Tensor, others: ColumnRoots) -> None:
        """Overwrite some of the columns."""
        self.soft.index_copy_(1, columns, others.soft.to(self.soft.dtype))
        self.threshold[columns] = others.threshold.to(self.threshold.dtype)
        assert self.solved is not None
        self.solved[columns] = True if others.solved is None else others.solved


class _ColumnSums:
    """The sums at a shift, whose soft indicators it leaves in ``soft``."""

    def __init__(self, problem: ColumnTopK, anchor: Tensor) -> None:
        scores, kind = problem.scores, problem.scores.dtype
        # In the scores' type it is subtracted from those that matter without error.
        self.anchor = anchor.to(kind).to(anchor.dtype)
        self.buffer = torch.sub(scores, anchor.to(kind))
        log_odds = torch.mul(self.buffer, -1 / problem.temperature.to(kind))
        odds = log_odds.clamp_(-FARTHEST[kind], FARTHEST[kind]).exp_()
        # A score that is not finite becomes NaN: zero times infinity.
        self.odds_against = odds.add_(self.buffer, alpha=0)
        self.cost = problem.cost
        self.soft = torch.empty_like(scores)

    def __call__(self, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is spent and its slope."""
        soft = torch.mul(self.odds_against, (-shift).exp(), out=self.soft).add_(1).reciprocal_()
        paid = soft if self.cost is None else torch.mul(soft, self.cost, out=self.buffer)
        spent = paid.sum(0)
        slope = torch.addcmul(paid, paid, soft, value=-1, out=self.buffer).sum(0)
        return spent, slope

    def settle(self, move: Tensor) -> None:
        """Follow the straight lines for so long."""
        slope = torch.addcmul(self.soft, self.soft, self.soft, value=-1, out=self.buffer)
        self.soft.addcmul_(slope, move)


def column_gradient(soft: Tensor, cost: Tensor | None, temperature: Tensor, incoming: Tensor) -> Tensor:
    """Return the gradient of the scores, through the threshold as well.

    Args:
        soft: Shape (units, columns).
        cost: The same shape, or None for one each.
        temperature: Shape (), in units of score.
        incoming: Gradient of the soft indicators, of their shape.
    """
    weight = torch.addcmul(soft, soft, soft, value=-1)
    outgoing = weight * incoming
    paid = weight if cost is None else weight * cost
    # Without slope there is nothing to share out: every unit is fully in or out, and the sum above is zero as well.
    spread = paid.sum(0, keepdim=True).clamp_(min=torch.finfo(soft.dtype).tiny)
    share = outgoing.sum(0, keepdim=True).div_(spread)
    return outgoing.addcmul_(paid, share, value=-1).mul_(1 / temperature.to(soft.dtype))
