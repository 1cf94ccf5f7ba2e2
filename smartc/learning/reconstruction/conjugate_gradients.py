"""Solve one positive definite system per row, each on a support of its own, by one matrix product per step."""

from __future__ import annotations

import torch
from torch import Tensor

TOLERANCE = 1e-6
STEPS = 200


def masked_conjugate_gradients(
    gram: Tensor, right: Tensor, support: Tensor, tolerance: float = TOLERANCE, steps: int = STEPS
) -> Tensor:
    """Solve ``gram[S, S] x[S] = right[S]`` for each row of ``right``, with x zero outside the row's support S.

    Args:
        gram: Symmetric positive definite matrices, shape (groups, K, K).
        right: Right-hand sides, shape (groups, rows, K).
        support: Which elements may differ from zero, boolean, the shape of ``right``.
        tolerance: A row is solved when its residual is this small relative to its right-hand side.
        steps: The most steps to take; what is reached by then is returned.

    Returns:
        The solutions, the shape of ``right``.

    Source: Hestenes and Stiefel, Methods of conjugate gradients, 1952, with the diagonal as preconditioner.
    """
    inverse = 1 / gram.diagonal(dim1=1, dim2=2)[:, None]
    residual = right * support
    goal = tolerance * residual.norm(dim=2)
    solution = torch.zeros_like(right)
    scaled = residual * inverse
    direction, size = scaled, _inner(residual, scaled)
    for _ in range(steps):
        if bool((residual.norm(dim=2) <= goal).all()):
            break
        image = (direction @ gram).mul_(support)
        length = _ratio(size, _inner(direction, image))
        solution.addcmul_(direction, length)
        residual = torch.addcmul(residual, image, length, value=-1)
        scaled = residual * inverse
        before, size = size, _inner(residual, scaled)
        direction = scaled + _ratio(size, before) * direction
    return solution


def _inner(left: Tensor, right: Tensor) -> Tensor:
    """Return one inner product per row, shape (groups, rows, 1)."""
    return (left * right).sum(dim=2, keepdim=True)


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """Return a quotient, 0 where a row is solved exactly and both are 0."""
    return torch.where(below > 0, above / torch.where(below > 0, below, 1.0), 0.0)
