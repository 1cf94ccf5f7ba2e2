"""A soft top-k as it was given: its values checked, long rows solved one by one, short rows side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from smartc.core.errors import InternalError, SmartcError, UserError
from smartc.kernels.tensor_pool import MASK_POOL
from smartc.kernels.training.compiled import serves
from smartc.kernels.training.rows import MOST_UNITS, Limits, soft_top_k_rows, soft_top_k_rows_gradient
from smartc.learning.soft_top_k.columns import SHORT_COLUMN, ColumnTopK, column_gradient
from smartc.learning.soft_top_k.columns import STRAIGHT as SHORT_STRAIGHT
from smartc.learning.soft_top_k.columns import TOLERANCES as SHORT_TOLERANCES
from smartc.learning.soft_top_k.flat import TOLERANCES, FlatTopK, flat_gradient, total_cost
from smartc.learning.soft_top_k.root import REACH

WHERE = "soft_top_k"
# The excess of an amount over the total that is allowed, relative: a sum of a million float32 costs is off by no more.
SLACK = 1e-6
# Elements that are solved side by side on a CPU: few enough for its cache, enough for the calls to cost little.
SLAB = 262_144
# A row from this length on is solved on its own on a CPU: beside it the calls cost little.
LONG_ROW = 16_384
# Temperatures whose inverses, times any score above 1e-8, float32 can hold.
COLDEST, HOTTEST = 1e-30, 1e30


@dataclass(frozen=True)
class TopKProblem:
    """One budget for each row of units.

    Attributes:
        scores: Shape (rows, units), contiguous, float32 or float64.
        cost: The same, or None for one each.
        amount: Shape (), float64.
        temperature: Shape (), float64, in units of score.
    """

    scores: Tensor
    cost: Tensor | None
    amount: Tensor
    temperature: Tensor

    def solve(self, start: Tensor) -> tuple[Tensor, Tensor]:
        """Return the soft indicators and the thresholds, in units of score and the type of the start.

        Args:
            start: Thresholds to begin at, shape (rows,); NaN for none.

        Raises:
            UserError: A value is out of its range.
        """
        if self._has_kernel(start):
            return self._solve_by_kernel(start)
        soft, threshold = MASK_POOL.empty_like(self.scores), start.clone()
        if is_long(self.scores):
            for row in range(len(self.scores)):
                threshold[row] = self._rows(row)._solve_long(start[row].item(), soft[row])
            return soft, threshold
        for rows in slabs(self.scores):
            columns, threshold[rows] = self._rows(rows)._solve_short(start[rows])
            put_columns(soft[rows], columns)
        return soft, threshold

    def _has_kernel(self, start: Tensor) -> bool:
        """Return whether a kernel can try: what it does not look at is as it should be."""
        if self.cost is not None or self.scores.shape[1] > MOST_UNITS or not serves(self.scores, start):
            return False
        return 0 < self.amount.item() < self.scores.shape[1] and COLDEST <= self.temperature.item() <= HOTTEST

    def _solve_by_kernel(self, start: Tensor) -> tuple[Tensor, Tensor]:
        """Solve the rows whose thresholds are close by a kernel, the others as if there was none."""
        amount, kind = self.amount.item(), torch.float32
        limits = Limits(SHORT_TOLERANCES[kind] * amount, SHORT_STRAIGHT[kind], REACH)
        soft, threshold = soft_top_k_rows(self.scores, start, amount, self.temperature.item(), limits)
        if not threshold.sum().isnan():
            return soft, threshold
        for part in threshold.isnan().nonzero()[:, 0].split(SLAB // self.scores.shape[1]):
            columns, roots = self._rows(part)._solve_short(start[part])
            soft[part], threshold[part] = columns.T.to(soft), roots.to(threshold)
        return soft, threshold

    def _rows(self, rows: slice | int | Tensor) -> TopKProblem:
        """Return some of the rows, or one."""
        return replace(self, scores=self.scores[rows], cost=None if self.cost is None else self.cost[rows])

    def _solve_long(self, start: float, soft: Tensor) -> float:
        """Write one row's soft indicators and return its threshold."""
        amount, temperature = self.amount.item(), self.temperature.item()
        total = float(self.scores.numel()) if self.cost is None else total_cost(self.cost)
        if not (0 <= amount <= total * (1 + SLACK) and COLDEST <= temperature <= HOTTEST):
            raise self._fault()
        # What a sum of costs may be off by in their own type is not worth leaving a unit out.
        everything = total if self.cost is None else total * (1 - TOLERANCES[self.cost.dtype])
        if amount == 0 or amount >= everything:
            soft.fill_(float(amount > 0))
            return start
        threshold = FlatTopK(self.scores, self.cost, temperature).solve(amount, total, start, soft)
        if math.isnan(threshold):
            raise self._fault()
        return threshold

    def _solve_short(self, start: Tensor) -> tuple[Tensor, Tensor]:
        """Return the soft indicators of rows side by side, a column each, and the thresholds.

        What is out of range becomes NaN, which is never solved: so no value is read back from a GPU to be checked.
        """
        scores, cost = as_columns(self.scores), None if self.cost is None else as_columns(self.cost)
        # Without costs one amount is that of all rows, and so is the total.
        total = start.new_full((1,), len(scores), dtype=torch.float64)
        if cost is not None:
            cost = torch.where((cost > 0) & cost.isfinite(), cost, torch.nan)
            total = cost.sum(0, dtype=torch.float64)
        amount = self.amount.to(start.device)
        fits = (self.temperature >= COLDEST) & (self.temperature <= HOTTEST)
        temperature = torch.where(fits, self.temperature, torch.nan).to(start.device)
        empty, full = (amount == 0).expand_as(total), (amount >= total) & (amount <= total * (1 + SLACK))
        inner = torch.where(empty | full, total / 2, amount)
        inner = torch.where((inner > 0) & (inner < total), inner, torch.nan)
        roots = ColumnTopK(scores, cost, inner, total, temperature).solve(start)
        if roots.solved is not None and not roots.solved.all():
            raise self._fault()
        if start.device.type == "cpu" and not bool((empty | full).any()):
            return roots.soft, roots.threshold
        roots.soft.masked_fill_(empty, 0).masked_fill_(full, 1)
        return roots.soft, torch.where(empty | full, start, roots.threshold)

    def _fault(self) -> SmartcError:
        """Return the error that says why there is no solution."""
        fit = "Give one from 1e-30 to 1e+30, in units of score"
        if not COLDEST <= self.temperature.item() <= HOTTEST:
            return UserError(f"the temperature is {self.temperature.item():g}", where=WHERE, fix=fit)
        for name, values, right in self._values():
            if not right.all():
                wrong = values[~right]
                fact = f"{len(wrong)} of {values.numel()} {name}, the first is {wrong[0].item():g}"
                return UserError(fact, where=WHERE, fix="Look for where they come from")
        cost = torch.ones_like(self.scores) if self.cost is None else self.cost
        total = cost.sum(-1, dtype=torch.float64).min().item()
        amount = self.amount.item()
        if not 0 <= amount <= total * (1 + SLACK):
            fix = f"Give a k from 0 to {total:g}"
            return UserError(f"k is {amount:g}, all units together amount to {total:g}", where=WHERE, fix=fix)
        fact = f"no threshold found for k = {amount:g} at temperature {self.temperature.item():g}"
        return InternalError(fact, where=WHERE)

    def _values(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Yield what may be wrong with the values, the values, and where they are right."""
        yield "scores are not finite", self.scores, self.scores.isfinite()
        if self.cost is not None:
            yield "costs are not positive and finite", self.cost, (self.cost > 0) & self.cost.isfinite()


def top_k_gradient(soft: Tensor, cost: Tensor | None, temperature: Tensor, incoming: Tensor) -> Tensor:
    """Return the gradient of the scores, all tensors of shape (rows, units) but the temperature."""
    outgoing = MASK_POOL.empty_like(soft)
    if is_long(soft):
        for row in range(len(soft)):
            paid = None if cost is None else cost[row]
            flat_gradient(soft[row], paid, temperature.item(), incoming[row], outgoing[row])
        return outgoing
    if cost is None and soft.shape[1] <= MOST_UNITS and serves(soft, incoming):
        return soft_top_k_rows_gradient(soft, incoming, temperature.item())
    for rows in slabs(soft):
        paid = None if cost is None else as_columns(cost[rows])
        there = temperature.to(soft.device)
        put_columns(outgoing[rows], column_gradient(as_columns(soft[rows]), paid, there, as_columns(incoming[rows])))
    return outgoing


def is_long(table: Tensor) -> bool:
    """Return whether rows are solved one by one: long ones on a CPU."""
    return table.device.type == "cpu" and table.shape[1] >= LONG_ROW


def slabs(table: Tensor) -> Iterator[slice]:
    """Yield the rows to solve side by side: all of them but on a CPU."""
    count = len(table) if table.device.type != "cpu" else max(1, SLAB // table.shape[1])
    for row in range(0, len(table), count):
        yield slice(row, row + count)


def as_columns(rows: Tensor) -> Tensor:
    """Return rows side by side, in float64 if their float32 sums would not be exact enough."""
    kind = rows.dtype if rows.shape[1] <= SHORT_COLUMN else torch.float64
    columns = rows.new_empty(rows.shape[1], len(rows), dtype=kind)
    # With a third axis: what copies matrices across is several times slower for so narrow ones.
    return columns.unsqueeze(2).copy_(rows.T.unsqueeze(2)).squeeze(2)


def put_columns(rows: Tensor, columns: Tensor) -> None:
    """Write what ``as_columns`` laid side by side back into rows."""
    rows.unsqueeze(2).copy_(columns.T.unsqueeze(2))
