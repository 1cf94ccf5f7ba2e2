"""The soft top-k of one long row, and its gradient: each pass over memory computes all that it can."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from smartc.kernels.training.compiled import compiled, lanes
from smartc.kernels.training.rows import FARTHEST

# Vectors that are added up in float32; the sums of those are added up in float64.
BLOCK = 8


def soft_indicators(
    scores: torch.Tensor,
    cost: torch.Tensor | None,
    anchor: float,
    per_temperature: float,
    shift: float,
    soft: torch.Tensor,
) -> tuple[float, float]:
    """Write sigmoids of ``(score - anchor) x per temperature + shift``; return their sums.

    Args:
        scores: Shape (units,), float32, contiguous, on the CPU; so are all others.
        cost: The same, or None for one each.
        anchor: Is subtracted first, which is exact for the scores near it, however large they are.
        per_temperature: Factor of what is left.
        shift: In log-odds.
        soft: Where to write.

    Returns:
        The sums of soft x cost and of soft x soft x cost; NaN where a score is.
    """
    spent, square = _partial_sums(scores, 2)
    numbers = scores.new_tensor([anchor, per_temperature, shift])
    priced = [] if cost is None else [cost]
    compiled(soft_indicators_and_sums, len(priced))(scores, *priced, numbers, soft, spent, square)
    return _total(spent), _total(square)


def follow_slopes(soft: torch.Tensor, move: float) -> None:
    """Move sigmoids by some log-odds along straight lines, in place."""
    compiled(moved_indicators)(soft, soft.new_tensor([move]))


def gradient_sums(soft: torch.Tensor, cost: torch.Tensor | None, incoming: torch.Tensor) -> tuple[float, float]:
    """Return the sums of slope x incoming and of slope x cost."""
    along, spread = _partial_sums(soft, 2)
    priced = [] if cost is None else [cost]
    compiled(sums_of_gradient, len(priced))(soft, incoming, *priced, along, spread)
    return _total(along), _total(spread)


def score_gradient(
    soft: torch.Tensor,
    cost: torch.Tensor | None,
    incoming: torch.Tensor,
    share: float,
    per_temperature: float,
    outgoing: torch.Tensor,
) -> None:
    """Write slope x (incoming - share x cost) x per temperature."""
    numbers, priced = soft.new_tensor([share, per_temperature]), [] if cost is None else [cost]
    compiled(gradient_of_scores, len(priced))(soft, incoming, *priced, numbers, outgoing)


def sum_of_costs(cost: torch.Tensor) -> float:
    """Return the sum, NaN where a cost is not positive."""
    costs, wrong = _partial_sums(cost, 2)
    compiled(sums_of_costs)(cost, costs, wrong)
    return _total(costs) if not _total(wrong) else math.nan


def _partial_sums(like: torch.Tensor, count: int) -> list[torch.Tensor]:
    """Return tensors for the sums of blocks and for the elements that are left over."""
    whole, left = divmod(like.numel(), BLOCK * lanes())
    return [like.new_empty(whole * lanes() + left) for _ in range(count)]


def _total(sums: torch.Tensor) -> float:
    """Return the sum in float64."""
    return sums.sum(dtype=torch.float64).item()


def soft_indicators_and_sums(width: int, priced: int) -> Any:
    """Return the function ``(scores, [cost,] numbers, soft, spent, square)``."""
    from tvm import tirx

    from smartc.kernels.training.vectors import own_place, places, repeated
    from smartc.kernels.vector_math import exponential, splat

    def build(length: Any, argument: Callable[[str, Any], Any], T: Any) -> None:
        scores, *cost = (argument(name, length) for name in ("scores", "cost")[: 1 + priced])
        numbers, soft = argument("numbers", 3), argument("soft", length)
        sums = [argument(name, T.int64()) for name in ("spent", "square")]

        def evaluate(first: Any, wide: int) -> list[Any]:
            """Compute a vector; return the vectors that it adds to the sums."""
            at, name = places(first, wide), partial(own_place, wide)
            anchor, per_temperature, shift = (repeated(numbers[place], wide) for place in range(3))
            raised = name((scores[at] - anchor) * per_temperature + shift)
            zero, one, farthest = (splat(value, wide) for value in (0.0, 1.0, FARTHEST))
            odds = exponential(tirx.max(tirx.min(zero - raised, farthest), zero - farthest), wide, name)
            # Bounds swallow what is no number.
            number = tirx.max(raised, zero - raised) <= splat(math.inf, wide)
            value = name(tirx.Select(number, one / (one + odds), splat(math.nan, wide)))
            T.buffer_store(soft, value, [at])
            paid = name(value * cost[0][at] if cost else value)
            return [paid, paid * value]

        _for_blocks(length, width, sums, evaluate)

    return _function(build)


def moved_indicators(width: int) -> Any:
    """Return the function ``(soft, numbers)``."""
    from smartc.kernels.training.vectors import for_vectors, own_place, places, repeated

    def build(length: Any, argument: Callable[[str, Any], Any], T: Any) -> None:
        soft, numbers = argument("soft", length), argument("numbers", 1)

        def move(first: Any, wide: int) -> None:
            """Move a vector."""
            at = places(first, wide)
            value = own_place(wide, soft[at])
            way = repeated(numbers[0], wide)
            T.buffer_store(soft, value + way * (value - value * value), [at])

        for_vectors(length, width, move)

    return _function(build)


def sums_of_gradient(width: int, priced: int) -> Any:
    """Return the function ``(soft, incoming, [cost,] along, spread)``."""
    from smartc.kernels.training.vectors import own_place, places

    def build(length: Any, argument: Callable[[str, Any], Any], T: Any) -> None:
        soft, incoming, *cost = (argument(name, length) for name in ("soft", "incoming", "cost")[: 2 + priced])
        sums = [argument(name, T.int64()) for name in ("along", "spread")]

        def multiply(first: Any, wide: int) -> list[Any]:
            """Return the terms that a vector adds to both sums."""
            at = places(first, wide)
            value = own_place(wide, soft[at])
            slope = own_place(wide, value - value * value)
            return [slope * incoming[at], slope * cost[0][at] if cost else slope]

        _for_blocks(length, width, sums, multiply)

    return _function(build)


def gradient_of_scores(width: int, priced: int) -> Any:
    """Return the function ``(soft, incoming, [cost,] numbers, outgoing)``."""
    from smartc.kernels.training.vectors import for_vectors, own_place, places, repeated

    def build(length: Any, argument: Callable[[str, Any], Any], T: Any) -> None:
        soft, incoming, *cost = (argument(name, length) for name in ("soft", "incoming", "cost")[: 2 + priced])
        numbers, outgoing = argument("numbers", 2), argument("outgoing", length)

        def differentiate(first: Any, wide: int) -> None:
            """Compute a vector."""
            at = places(first, wide)
            value = own_place(wide, soft[at])
            share, per_temperature = (repeated(numbers[place], wide) for place in range(2))
            gain = incoming[at] - (share * cost[0][at] if cost else share)
            T.buffer_store(outgoing, (value - value * value) * gain * per_temperature, [at])

        for_vectors(length, width, differentiate)

    return _function(build)


def sums_of_costs(width: int) -> Any:
    """Return the function ``(cost, costs, wrong)``."""
    from tvm import tirx

    from smartc.kernels.training.vectors import own_place, places
    from smartc.kernels.vector_math import splat

    def build(length: Any, argument: Callable[[str, Any], Any], T: Any) -> None:
        cost = argument("cost", length)
        sums = [argument(name, T.int64()) for name in ("costs", "wrong")]

        def look(first: Any, wide: int) -> list[Any]:
            """Return a vector, and 1 where it is not positive."""
            value, zero = own_place(wide, cost[places(first, wide)]), splat(0.0, wide)
            return [value, tirx.Select(value > zero, zero, splat(1.0, wide))]

        _for_blocks(length, width, sums, look)

    return _function(build)


def _function(build: Callable[[Any, Callable[[str, Any], Any], Any], None]) -> Any:
    """Return the function over rows of one length whose arguments and statements ``build`` adds."""
    from tvm.script.ir_builder import IRBuilder
    from tvm.tirx.script.builder import ir as T

    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_attr({"tirx.noalias": True})
        build(T.int64(), lambda name, size: T.arg(name, T.buffer((size,), "float32")), T)
    return builder.get()


def _for_blocks(length: Any, width: int, sums: Sequence[Any], compute: Callable[[Any, int], list[Any]]) -> None:
    """Call ``compute`` for each vector; write the sums of its results for a block, and each result of the rest."""
    from tvm import tirx
    from tvm.tirx.script.builder import ir as T

    from smartc.kernels.training.vectors import places
    from smartc.kernels.vector_math import splat

    whole, here = tirx.floordiv(length, BLOCK * width), places(0, width)
    with T.serial(0, whole) as block:
        totals = [T.alloc_buffer((width,), "float32", scope="local") for _ in sums]
        for total in totals:
            T.buffer_store(total, splat(0.0, width), [here])
        with T.serial(0, BLOCK) as part:
            for total, value in zip(totals, compute((block * BLOCK + part) * width, width), strict=True):
                T.buffer_store(total, total[here] + value, [here])
        for table, total in zip(sums, totals, strict=True):
            T.buffer_store(table, total[here], [places(block * width, width)])
    with T.serial(0, length - whole * (BLOCK * width)) as rest:
        for table, value in zip(sums, compute(whole * (BLOCK * width) + rest, 1), strict=True):
            T.buffer_store(table, value, [whole * width + rest])
