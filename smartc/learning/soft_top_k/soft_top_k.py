"""The differentiable top-k: sigmoids of scores whose sum, or cost, is exactly the budget."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from smartc.core.errors import UserError
from smartc.learning.soft_top_k.problem import WHERE, TopKProblem, top_k_gradient


def soft_top_k(
    scores: Tensor,
    k: float | Tensor,
    temperature: float | Tensor,
    cost: Tensor | None = None,
    *,
    dim: int | None = None,
    start: Tensor | None = None,
) -> Tensor:
    """Return ``sigmoid((scores - threshold) / temperature)``, the threshold such that it sums to ``k``.

    The gradient goes through the threshold too: what raises one unit lowers others.  There is none for ``k``,
    ``temperature`` and ``cost``.  As the temperature falls, the result tends to the indicator of the ``k`` largest
    scores, with costs to the best scores that ``k`` affords.  Numbers may be 0-dimensional tensors, which
    ``torch.compile`` does not compile anew when they change.

    Args:
        scores: Any shape, finite.  float16 and bfloat16 are computed in float32.
        k: The budget: how many units, or how much cost; zero to all, fractions too.
        temperature: In units of score, above zero.
        cost: Of each unit, above zero, of the shape of ``scores``; then ``sum(cost * result)`` is ``k``.
        dim: None for one budget over all elements, -1 for one per row of the last axis.
        start: The threshold of a similar call, in units of score so that it serves at any temperature; NaN for none.
            Shape () for one budget, that of ``scores`` without the last axis for rows.  The new threshold is
            written to it, where there is one: with a budget of nothing or everything it is left as it is.

    Returns:
        The shape of ``scores``, in float32 or float64 whatever autocast says.

    Raises:
        UserError: A shape, type or value is not as above.

    Source: SMART, arXiv 2403.19969; the gradient is the implicit function theorem's.

    Example:
        >>> import smartc, torch
        >>> scores = torch.tensor([0.1, 2.0, -1.0, 1.5], requires_grad=True)
        >>> soft = smartc.soft_top_k(scores, k=2, temperature=0.5)
        >>> [round(share, 3) for share in soft.tolist()]
        [0.22, 0.927, 0.03, 0.823]
        >>> round(soft.sum().item(), 6)
        2.0
        >>> soft[0].backward()
    """
    _check_tensors(scores, cost, dim, start)
    numbers = _number(k, "k"), _number(temperature, "the temperature")
    kind = torch.float64 if scores.dtype == torch.float64 else torch.float32
    cost = None if cost is None else cost.detach().to(kind)
    soft, threshold = _soft_top_k(scores.to(kind), *numbers, cost, dim is not None, start)
    if start is not None:
        start.copy_(threshold.detach())
    return soft


def _number(value: float | Tensor, name: str) -> Tensor:
    """Return a number as a tensor in float64."""
    number = torch.as_tensor(value, dtype=torch.float64).detach()
    if number.dim():
        raise UserError(f"{name} has shape {tuple(number.shape)}", where=WHERE, fix="Give one number")
    return number


def _check_tensors(scores: Tensor, cost: Tensor | None, dim: int | None, start: Tensor | None) -> None:
    """Refuse what can be refused without reading a value."""
    if not scores.is_floating_point():
        raise UserError(f"the scores are {scores.dtype}", where=WHERE, fix="Give floating-point scores")
    if dim not in (None, -1, scores.dim() - 1) or (dim is not None and not scores.dim()):
        fix = "Give None for one budget, or -1 for one per row of the last axis"
        raise UserError(f"dim is {dim} for scores of shape {tuple(scores.shape)}", where=WHERE, fix=fix)
    if cost is not None and cost.shape != scores.shape:
        fact = f"cost has shape {tuple(cost.shape)}, the scores {tuple(scores.shape)}"
        raise UserError(fact, where=WHERE, fix="Give a cost for each score")
    if start is None:
        return
    shape = () if dim is None else tuple(scores.shape[:-1])
    if tuple(start.shape) != shape or not start.is_floating_point() or start.requires_grad:
        grad = ", requires a gradient" if start.requires_grad else ""
        fact = f"start has shape {tuple(start.shape)}, type {start.dtype}{grad}"
        fix = f"Give a floating-point tensor of shape {shape} that requires no gradient"
        raise UserError(fact, where=WHERE, fix=fix)


@torch.library.custom_op("smartc::soft_top_k", mutates_args=())
def _soft_top_k(
    scores: Tensor, amount: Tensor, temperature: Tensor, cost: Tensor | None, rows: bool, start: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the soft indicators, and the thresholds in the type of the start, float64 without one."""
    first = scores.new_full(_threshold_shape(scores, rows), math.nan, dtype=torch.float64) if start is None else start
    if not scores.numel():
        return torch.empty_like(scores), first.clone()
    table = _table(scores, rows)
    problem = TopKProblem(table, None if cost is None else _table(cost, rows), amount, temperature)
    with torch.autocast(scores.device.type, enabled=False):
        soft, threshold = problem.solve(first.to(scores.device).reshape(-1))
    return soft.view(scores.shape), threshold.view(first.shape)


@_soft_top_k.register_fake
def _(
    scores: Tensor, amount: Tensor, temperature: Tensor, cost: Tensor | None, rows: bool, start: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return tensors of the results' shapes and types."""
    kind = torch.float64 if start is None else start.dtype
    return scores.new_empty(scores.shape), scores.new_empty(_threshold_shape(scores, rows), dtype=kind)


@torch.library.custom_op("smartc::soft_top_k_gradient", mutates_args=())
def _gradient(soft: Tensor, incoming: Tensor, temperature: Tensor, cost: Tensor | None, rows: bool) -> Tensor:
    """Return the gradient of the scores."""
    if not soft.numel():
        return torch.empty_like(soft)
    paid = None if cost is None else _table(cost, rows)
    with torch.autocast(soft.device.type, enabled=False):
        return top_k_gradient(_table(soft, rows), paid, temperature, _table(incoming, rows)).view(soft.shape)


@_gradient.register_fake
def _(soft: Tensor, incoming: Tensor, temperature: Tensor, cost: Tensor | None, rows: bool) -> Tensor:
    """Return a tensor of the result's shape and type."""
    return soft.new_empty(soft.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    """Keep what the gradient needs."""
    _, _, temperature, cost, ctx.rows, _ = inputs
    ctx.save_for_backward(output[0], temperature, cost)


def _backward(ctx: Any, incoming: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    """Return the gradient of the scores, and none of the rest."""
    soft, temperature, cost = ctx.saved_tensors
    return _gradient(soft, incoming, temperature, cost, ctx.rows), None, None, None, None, None


_soft_top_k.register_autograd(_backward, setup_context=_save)


def _table(tensor: Tensor, rows: bool) -> Tensor:
    """Return a tensor as rows of units: of its last axis, or one row of all."""
    return tensor.reshape(-1, tensor.shape[-1] if rows else tensor.numel()).contiguous()


def _threshold_shape(scores: Tensor, rows: bool) -> torch.Size:
    """Return a threshold's shape: one for each row of the last axis, or one."""
    return scores.shape[:-1] if rows else torch.Size()
