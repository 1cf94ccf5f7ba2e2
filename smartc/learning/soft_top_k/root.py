"""Find the shift at which sums of sigmoids meet their budgets: safeguarded Newton in log-odds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

# Beyond this many temperatures from the critical score what is left of a sigmoid is below float64's rounding, so a
# root farther away than this cannot be told from one at this distance.
REACH = 40.0
# A Newton step must leave at most this share of what was missing, or the next step halves the bracket.
GOOD_STEP = 0.25
# A bracket so narrow, relative to the shift, cannot be halved.
FINEST = 2 * torch.finfo(torch.float64).eps
# From a bracket of 2 * REACH, halving alone gets to float64's resolution in 59 passes.
MOST_PASSES = 150

Numbers = TypeVar("Numbers", float, Tensor)
Sums = Callable[[Numbers], tuple[Numbers, Numbers]]


@dataclass(frozen=True)
class TopKBudget(Generic[Numbers]):
    """What a sum has to come to, or many sums side by side.

    Attributes:
        amount: Budgets, strictly between zero and the total.
        total: What each sum tends to as its shift grows.
        tolerance: Largest difference that is rounding, relative to the amount.
        straight: Over shifts no longer than this, the sum is a straight line up to rounding.
    """

    amount: Numbers
    total: Numbers
    tolerance: float
    straight: float = 0.0


@dataclass(frozen=True)
class Bracket(Generic[Numbers]):
    """Where a root is looked for.

    Attributes:
        first: Where to begin.
        bound: The root is between this and its negative; infinite if that is not known, and then a bad step ends
            the search.
        passes: How often to compute the sums at most.
    """

    first: Numbers
    bound: float
    passes: int


def search_one(sums: Sums[float], budget: TopKBudget[float], bracket: Bracket[float]) -> tuple[float, bool]:
    """Solve an increasing equation.

    A step is Newton's in the log-odds of the share spent, which is a straight line in the shift where all scores are
    equal and nearly one where they are normally distributed.  The last call of ``sums`` is at the shift returned.

    Args:
        sums: Gives the sum and its slope at a shift; a NaN sum ends the search.
        budget: What the sum must come to.
        bracket: Where to look.

    Returns:
        The shift, and whether it solves the equation or is at most ``budget.straight`` away from what does.
    """
    shift, lower, upper, before = bracket.first, -bracket.bound, bracket.bound, math.inf
    for _ in range(bracket.passes):
        spent, slope = sums(shift)
        missing = budget.amount - spent
        if abs(missing) <= max(budget.tolerance * budget.amount, budget.straight * slope):
            return shift, True
        lower, upper = (shift, upper) if missing > 0 else (lower, shift)
        if math.isnan(spent) or upper - lower <= FINEST * max(1.0, abs(shift)):
            return shift, math.isfinite(spent) and math.isfinite(bracket.bound)
        newton = shift + _newton_step_one(spent, slope, missing, budget)
        slow = abs(missing) > GOOD_STEP * before and math.isfinite(upper - lower)
        following = newton if lower < newton < upper and not slow else (lower + upper) / 2
        if not math.isfinite(following):
            break
        before, shift = abs(missing), following
    return shift, False


def _newton_step_one(spent: float, slope: float, missing: float, budget: TopKBudget[float]) -> float:
    """Return the Newton step for the log-odds of ``spent / total``, NaN where a sum is at its end."""
    try:
        log_odds = math.log1p(missing / spent) + math.log1p(missing / (budget.total - budget.amount))
        return log_odds * spent * (budget.total - spent) / (budget.total * slope)
    except (ArithmeticError, ValueError):
        return math.nan


def newton(
    sums: Sums[Tensor], budget: TopKBudget[Tensor], first: Tensor, passes: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Take plain Newton steps for many equations side by side: for most a few are enough, and each is cheap.

    Returns:
        The shifts at which ``sums`` was called last, how far each equation's root is from there along a straight
        line, and whether it is close enough for that; None where all are.
    """
    shift, tiny = first, torch.finfo(first.dtype).tiny
    for left in reversed(range(passes)):
        spent, slope = sums(shift)
        # On a plateau the slope vanishes: what is solved there must not be moved away.
        move = _beyond(budget.amount - spent, budget.tolerance * budget.amount).div_(slope.clamp_(min=tiny))
        # Whole comparisons would take longer than this one number.
        if bool(move.abs().amax() <= budget.straight):
            return shift, move, None
        if left:
            shift = shift + move
    return shift, move, move.abs() <= budget.straight


def _beyond(missing: Tensor, slack: Tensor) -> Tensor:
    """Return what is missing, zero where that is within the slack."""
    if slack.numel() == 1 and slack.device.type == "cpu":
        return torch.nn.functional.hardshrink(missing, slack.item())
    return torch.where(missing.abs() <= slack, 0, missing)


def search(sums: Sums[Tensor], budget: TopKBudget[Tensor], bracket: Bracket[Tensor]) -> tuple[Tensor, Tensor]:
    """Solve many equations side by side, each as ``search_one`` does; a NaN sum leaves its own unsolved.

    The last call of ``sums`` is at the shifts returned.
    """
    first = shift = bracket.first
    lower, upper = torch.full_like(first, -bracket.bound), torch.full_like(first, bracket.bound)
    before = torch.full_like(first, torch.inf)
    solved = torch.zeros_like(first, dtype=torch.bool)
    for _ in range(bracket.passes):
        spent, slope = sums(shift)
        missing = budget.amount - spent
        lower = torch.where(missing > 0, shift, lower)
        upper = torch.where(missing < 0, shift, upper)
        narrow = (upper - lower <= FINEST * shift.abs().clamp(min=1)) & math.isfinite(bracket.bound)
        solved = (missing.abs() <= budget.tolerance * budget.amount) | narrow
        following = _next_shift(shift + _newton_step(spent, slope, missing, budget), lower, upper, missing, before)
        lost = spent.isnan() | ~following.isfinite()
        if bool((solved | lost).all()):
            break
        before = missing.abs()
        shift = torch.where(solved, shift, following)
    return shift, solved


def _newton_step(spent: Tensor, slope: Tensor, missing: Tensor, budget: TopKBudget[Tensor]) -> Tensor:
    """Return the Newton step for the log-odds of ``spent / total``; not finite where a sum is at its end."""
    log_odds = torch.log1p(missing / spent) + torch.log1p(missing / (budget.total - budget.amount))
    return log_odds * spent * (budget.total - spent) / (budget.total * slope)


def _next_shift(newton: Tensor, lower: Tensor, upper: Tensor, missing: Tensor, before: Tensor) -> Tensor:
    """Return Newton's shift where it is inside the bracket and Newton has been getting on, else the middle."""
    slow = (missing.abs() > GOOD_STEP * before) & (upper - lower).isfinite()
    return torch.where((newton > lower) & (newton < upper) & ~slow, newton, (lower + upper) / 2)


def critical_scores(scores: Tensor, cost: Tensor | None, amount: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
    """Return the score at which the best units' costs reach the amount, and a first shift there, column by column.

    The root is within REACH temperatures of that score: REACH above it no more than the costs of the better units,
    which are less than the amount, can be spent; REACH below it at least the amount is spent, both up to rounding.
    The first shift is the root for well separated scores: that unit's log-odds of its share of the amount, but not
    past the middle to either neighbour.

    Args:
        scores: Shape (units, columns).
        cost: The same shape, or None for one each.
        amount: Shape () or (columns,).
        temperature: Shape ().
    """
    ordered, order = scores.sort(0, descending=True)
    amount = amount.double().expand(scores.shape[1])[None]
    if cost is None:
        place = (amount.ceil().long() - 1).clamp(0, len(scores) - 1)
        share = amount - place
    else:
        cost = cost.gather(0, order)
        spent = cost.cumsum(0, dtype=torch.float64)
        place = (spent < amount).sum(0, keepdim=True).clamp(max=len(scores) - 1)
        share = 1 - (spent.gather(0, place) - amount) / cost.gather(0, place)
    here, above, below = _with_neighbours(ordered, place)
    first = torch.logit(share, eps=0.0)
    first = first.clamp(min=(here - above) / temperature / 2, max=(here - below) / temperature / 2)
    return ordered.gather(0, place)[0], first.clamp(-REACH, REACH)[0]


def _with_neighbours(ordered: Tensor, place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a score of each column and those on either side, in float64; infinite past the ends."""
    last = len(ordered) - 1
    here = ordered.gather(0, place).double()
    above = ordered.gather(0, (place - 1).clamp(min=0)).double().masked_fill(place == 0, torch.inf)
    below = ordered.gather(0, (place + 1).clamp(max=last)).double().masked_fill(place == last, -torch.inf)
    return here, above, below
