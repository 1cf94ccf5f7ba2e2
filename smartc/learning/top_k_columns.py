"""The soft top-k of many small budgets side by side, or of one on a GPU: whole tensors, a column per budget."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from smartc.learning.top_k_root import MOST_PASSES, REACH, Bracket, Budget, critical_scores, newton, search

# Columns of so few units are computed in float32, longer ones in float64, so that their sums are exact enough.
SHORT_COLUMN = 32
# What rounding leaves of a budget, relative: the worst sum of SHORT_COLUMN float32 numbers is off by 3e-7.
TOLERANCES = {torch.float32: 5e-7, torch.float64: 4e-15}
# Newton steps before they count as failed: from a good start they take three or four.
NEWTON_PASSES = 6


@dataclass(frozen=True)
class ColumnTopK:
    """A budget for each column; a NaN anywhere in a column leaves it unsolved.

    Attributes:
        scores: Shape (units, columns), float32 for short columns, else float64.
        cost: The same shape and type, or None for one each.
        amount: Shape (columns,), float64, each strictly between zero and the column's total.
        total: Sums of the costs, shape (columns,), float64.
        temperature: Shape (), float64, in units of score.
    """

    scores: Tensor
    cost: Tensor | None
    amount: Tensor
    total: Tensor
    temperature: Tensor

    def solve(self, start: Tensor) -> ColumnRoots:
        """Solve from thresholds of shape (columns,), float64, NaN for none; what fails is solved afresh in float64."""
        roots = self._newton(start, self.scores.new_zeros(len(start)))
        failed = (~roots.solved).nonzero()[:, 0]
        if len(failed):
            roots.replace(failed, self._only(failed)._solve_afresh())
        return roots

    def _solve_afresh(self) -> ColumnRoots:
        """Solve from the critical scores; within a bracket what fails."""
        anchor, first = critical_scores(self.scores, self.cost, self.amount, self.temperature)
        roots = self._newton(anchor, first)
        failed = (~roots.solved).nonzero()[:, 0]
        if len(failed):
            roots.replace(failed, self._only(failed)._search(anchor[failed], first[failed]))
        return roots

    def _only(self, columns: Tensor) -> ColumnTopK:
        """Return some of the columns, in float64."""
        cost = None if self.cost is None else self.cost[:, columns].double()
        scores, amount, total = self.scores[:, columns].double(), self.amount[columns], self.total[columns]
        return ColumnTopK(scores, cost, amount, total, self.temperature)

    def _newton(self, anchor: Tensor, first: Tensor) -> ColumnRoots:
        """Take Newton steps about an anchor."""
        sums = _ColumnSums(self, anchor)
        return self._roots(sums, *newton(sums, self._budget(), first, NEWTON_PASSES))

    def _search(self, anchor: Tensor, first: Tensor) -> ColumnRoots:
        """Search within reach of an anchor."""
        sums = _ColumnSums(self, anchor)
        return self._roots(sums, *search(sums, self._budget(), Bracket(first, REACH, MOST_PASSES)))

    def _budget(self) -> Budget[Tensor]:
        """Return the budget in the scores' type."""
        kind = self.scores.dtype
        return Budget(self.amount.to(kind), self.total.to(kind), TOLERANCES[kind])

    def _roots(self, sums: _ColumnSums, shift: Tensor, solved: Tensor) -> ColumnRoots:
        """Return the roots at shifts; far from the anchor these are not exact enough."""
        threshold = sums.anchor.double() - shift.double() * self.temperature
        return ColumnRoots(sums.soft, threshold, solved & (shift.abs() <= REACH))


@dataclass(frozen=True)
class ColumnRoots:
    """What solves a problem.

    Attributes:
        soft: The soft indicators, shape (units, columns).
        threshold: In units of score, shape (columns,), float64.
        solved: Which columns are right, shape (columns,).
    """

    soft: Tensor
    threshold: Tensor
    solved: Tensor

    def replace(self, columns: Tensor, others: ColumnRoots) -> None:
        """Overwrite some of the columns."""
        self.soft.index_copy_(1, columns, others.soft.to(self.soft.dtype))
        self.threshold[columns] = others.threshold
        self.solved[columns] = others.solved


class _ColumnSums:
    """The sums at a shift, whose soft indicators it leaves in ``soft``."""

    def __init__(self, problem: ColumnTopK, anchor: Tensor) -> None:
        scores, kind = problem.scores, problem.scores.dtype
        self.anchor = anchor.to(kind)
        # A score that is not finite becomes NaN: zero times infinity.
        odds = torch.sub(self.anchor, scores).div_(problem.temperature.to(kind)).exp_()
        self.odds_against = odds.add_(scores, alpha=0)
        self.cost = problem.cost
        self.soft = torch.empty_like(scores)
        self.buffer = torch.empty_like(scores)

    def __call__(self, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is spent and its slope."""
        soft = torch.mul(self.odds_against, (-shift).exp(), out=self.soft).add_(1).reciprocal_()
        paid = soft if self.cost is None else torch.mul(soft, self.cost, out=self.buffer)
        spent = paid.sum(0)
        slope = torch.addcmul(paid, paid, soft, value=-1, out=self.buffer).sum(0)
        return spent, slope


def column_gradient(soft: Tensor, cost: Tensor | None, temperature: Tensor, incoming: Tensor) -> Tensor:
    """Return the gradient of the scores, through the threshold as well.

    Args:
        soft: Shape (units, columns).
        cost: The same shape, or None for one each.
        temperature: Shape (), in units of score.
        incoming: Gradient of the soft indicators, of their shape.
    """
    weight = (1 - soft).mul_(soft)
    spread = (weight if cost is None else weight * cost).sum(0, keepdim=True)
    share = (weight * incoming).sum(0, keepdim=True).div_(spread)
    # Without slope there is nothing to share out: every unit is fully in or out.
    share.masked_fill_(spread == 0, 0)
    rest = incoming - (share if cost is None else share * cost)
    return rest.mul_(weight).div_(temperature.to(soft.dtype))
