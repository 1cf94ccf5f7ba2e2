"""The soft top-k of many short rows, and its gradient: as many rows side by side as a vector has lanes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from smartc.kernels.tensor_pool import MASK_POOL
from smartc.kernels.training.compiled import compiled

# Units of a row: a vector of each is kept in registers, or next to them.
MOST_UNITS = 16
# Newton steps: from where a row was some training steps ago they are enough for next to all rows.
PASSES = 4
# Log-odds beyond these are taken for these: what is left of a sigmoid there is below rounding, and what is far below
# it would be slow to compute with.
FARTHEST = 60.0
# The smallest normal number: of rows without slope, whose sums above it are zero as well, the quotient is zero.
TINY = torch.finfo(torch.float32).tiny
LARGEST = torch.finfo(torch.float32).max

# Gives a vector a place of its own.
Named = Callable[[Any], Any]


@dataclass(frozen=True)
class Limits:
    """What counts as a solution.

    Attributes:
        slack: What may be missing of the amount.
        straight: The longest last step, in temperatures; it is taken along a straight line.
        reach: The longest way from the start, in temperatures.
    """

    slack: float
    straight: float
    reach: float


def soft_top_k_rows(
    scores: torch.Tensor, start: torch.Tensor, amount: float, temperature: float, limits: Limits
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the soft indicators, shape (rows, units), and the thresholds, NaN where the steps find none.

    Args:
        scores: Shape (rows, units), float32, contiguous, on the CPU; so is ``start``.
        start: Thresholds to begin at, shape (rows,); NaN for none.
        amount: What each row is to come to.
        temperature: In units of score.
        limits: What counts as a solution.
    """
    soft, threshold = MASK_POOL.empty_like(scores), torch.empty_like(start)
    numbers = [amount, 1 / temperature, temperature, limits.slack, limits.straight, limits.reach]
    compiled(soft_top_k_of_rows, scores.shape[1])(scores, start, scores.new_tensor(numbers), soft, threshold)
    return soft, threshold


def soft_top_k_rows_gradient(soft: torch.Tensor, incoming: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the gradient of the scores, through the thresholds as well; all shapes (rows, units), as above."""
    outgoing = MASK_POOL.empty_like(soft)
    numbers = soft.new_tensor([1 / temperature])
    compiled(gradient_of_rows, soft.shape[1])(soft, incoming, numbers, outgoing)
    return outgoing


def soft_top_k_of_rows(lanes: int, units: int) -> Any:
    """Return the function ``(scores, start, numbers, soft, threshold)``."""
    from tvm import tirx
    from tvm.script.ir_builder import IRBuilder
    from tvm.tirx.script.builder import ir as T

    from smartc.kernels.training.vectors import for_vectors, own_place, places, repeated
    from smartc.kernels.vector_math import splat

    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_attr({"tirx.noalias": True})
        rows = T.int64()
        scores = _table(T, "scores", rows, units)
        start = T.arg("start", T.buffer((rows,), "float32"))
        numbers = T.arg("numbers", T.buffer((6,), "float32"))
        soft = _table(T, "soft", rows, units)
        threshold = T.arg("threshold", T.buffer((rows,), "float32"))
        scores, soft = (_flat(T, table) for table in (scores, soft))

        def solve(first: Any, width: int) -> None:
            """Solve as many rows as a vector has lanes."""
            named = partial(own_place, width)
            amount, per_temperature, temperature, slack, straight, reach = (
                named(repeated(numbers[place], width)) for place in range(6)
            )
            own_places = [places(first * units + unit, width, units) for unit in range(units)]
            here = places(first, width)
            anchor = named(start[here])
            against = [
                _odds_against(named(scores[place] - anchor), per_temperature, width, named) for place in own_places
            ]
            values, slopes, move, shift = _newton(against, amount, slack, width, named)
            found = tirx.And(_size(move, width) <= straight, _size(shift, width) <= reach)
            root = tirx.Select(found, anchor - shift * temperature, splat(math.nan, width))
            T.buffer_store(threshold, root, [here])
            for place, value, slope in zip(own_places, values, slopes, strict=True):
                T.buffer_store(soft, value + slope * move, [place])

        for_vectors(rows, lanes, solve)
    return builder.get()


def _odds_against(above: Any, per_temperature: Any, width: int, named: Named) -> Any:
    """Return the odds against units, given their distance above a threshold; NaN where that is not finite."""
    from tvm import tirx

    from smartc.kernels.vector_math import exponential, splat

    zero, farthest = splat(0.0, width), splat(FARTHEST, width)
    odds = tirx.max(tirx.min(zero - above * per_temperature, farthest), zero - farthest)
    finite = _size(above, width) <= splat(LARGEST, width)
    return named(tirx.Select(finite, exponential(odds, width, named), splat(math.nan, width)))


def _newton(
    against: list[Any], amount: Any, slack: Any, width: int, named: Named
) -> tuple[list[Any], list[Any], Any, Any]:
    """Return the units' values before the last Newton step, their slopes, that step, and where all steps lead."""
    from tvm import tirx

    from smartc.kernels.vector_math import exponential, splat

    zero, one = splat(0.0, width), splat(1.0, width)
    shift, odds = zero, against
    for left in reversed(range(PASSES)):
        values = [named(one / (each + one)) for each in odds]
        slopes = [named(value - value * value) for value in values]
        missing = named(amount - sum(values[1:], values[0]))
        # On a plateau the slope vanishes: what is solved there must not be moved away.
        step = missing / tirx.max(sum(slopes[1:], slopes[0]), splat(TINY, width))
        move = named(tirx.Select(_size(missing, width) <= slack, zero, step))
        shift = named(shift + move)
        if left:
            factor = named(exponential(zero - shift, width, named))
            odds = [each * factor for each in against]
    return values, slopes, move, shift


def _size(value: Any, width: int) -> Any:
    """Return the absolute value."""
    from tvm import tirx

    from smartc.kernels.vector_math import splat

    return tirx.max(value, splat(0.0, width) - value)


def gradient_of_rows(lanes: int, units: int) -> Any:
    """Return the function ``(soft, incoming, numbers, outgoing)``."""
    from tvm import tirx
    from tvm.script.ir_builder import IRBuilder
    from tvm.tirx.script.builder import ir as T

    from smartc.kernels.training.vectors import for_vectors, own_place, places, repeated
    from smartc.kernels.vector_math import splat

    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_attr({"tirx.noalias": True})
        rows = T.int64()
        soft, incoming = (_table(T, name, rows, units) for name in ("soft", "incoming"))
        numbers = T.arg("numbers", T.buffer((1,), "float32"))
        outgoing = _table(T, "outgoing", rows, units)
        soft, incoming, outgoing = (_flat(T, table) for table in (soft, incoming, outgoing))

        def differentiate(first: Any, width: int) -> None:
            """Compute the gradients of as many rows as a vector has lanes."""
            named = partial(own_place, width)
            own_places = [places(first * units + unit, width, units) for unit in range(units)]
            values = [named(soft[place]) for place in own_places]
            slopes = [named(value - value * value) for value in values]
            own = [named(slope * incoming[place]) for slope, place in zip(slopes, own_places, strict=True)]
            share = named(sum(own[1:], own[0]) / tirx.max(sum(slopes[1:], slopes[0]), splat(TINY, width)))
            per_temperature = named(repeated(numbers[0], width))
            for place, slope, gain in zip(own_places, slopes, own, strict=True):
                T.buffer_store(outgoing, (gain - slope * share) * per_temperature, [place])

        for_vectors(rows, lanes, differentiate)
    return builder.get()


def _table(T: Any, name: str, rows: Any, units: int) -> Any:
    """Return an argument of shape (rows, units)."""
    return T.arg(name, T.buffer((rows, units), "float32"))


def _flat(T: Any, table: Any) -> Any:
    """Return a table as one row."""
    return T.decl_buffer((table.shape[0] * table.shape[1],), "float32", data=table.data)
