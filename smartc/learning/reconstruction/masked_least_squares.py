"""Least squares for a layer's rows of weights, each on a support of its own, from sums over the inputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from smartc.learning.reconstruction.conjugate_gradients import STEPS, masked_conjugate_gradients

# Up to this many columns the systems of all rows are factored in one batch; above, each distinct support once.
BATCHED_COLUMNS = 64
BATCH_ELEMENTS = 1 << 22
# Keeps columns that are never active out of the solution; far below any ridge that matters.
FLOOR = 1e-9


@dataclass(eq=False)
class NormalEquations:
    """Sums over rows of a layer's inputs x, with a 1 appended, and of what its outputs lack, r.

    Attributes:
        gram: Sum of x x^T, shape (groups, K + 1, K + 1), float64.
        cross: Sum of r x^T, shape (groups, out, K + 1).
        energy: Sum of r^2, shape (groups, out).
    """

    gram: Tensor
    cross: Tensor
    energy: Tensor

    @classmethod
    def empty(cls, groups: int, out: int, columns: int, device: torch.device) -> NormalEquations:
        """Return the sums over no rows."""
        shapes = ((groups, columns + 1, columns + 1), (groups, out, columns + 1), (groups, out))
        return cls(*(torch.zeros(shape, dtype=torch.float64, device=device) for shape in shapes))

    @property
    def rows(self) -> int:
        """Return the number of rows added."""
        return int(self.gram[0, -1, -1])

    def add(self, inputs: Tensor, lacking: Tensor) -> None:
        """Add rows: inputs (groups, rows, K) and what the outputs lack (groups, rows, out)."""
        # Taking the means out of sums in single precision can leave a matrix that is not positive definite.
        inputs, lacking = inputs.double(), lacking.double()
        extended = torch.cat([inputs, inputs.new_ones(*inputs.shape[:2], 1)], dim=2)
        self.gram += extended.transpose(1, 2) @ extended
        self.cross += lacking.transpose(1, 2) @ extended
        self.energy += lacking.square().sum(dim=1)

    def solve(self, support: Tensor, ridge: float, intercept: bool) -> Tensor:
        """Return the change of the weights that leaves the least, shape (groups, out, K + 1), the intercept's last.

        Args:
            support: Which weights may change, boolean, shape (groups, out, K).
            ridge: Cost of a change, relative to the mean square of the inputs that it multiplies.
            intercept: Whether a constant may be added to each output.
        """
        gram, cross = self.gram[:, :-1, :-1], self.cross[..., :-1]
        mean, lacking = self.gram[:, -1:, :-1] / self.rows, self.cross[..., -1:] / self.rows
        if intercept:
            # Without the means, the weights' system is the same as that of weights and intercept together.
            gram = gram - self.rows * mean.transpose(1, 2) * mean
            cross = cross - self.rows * lacking * mean
        diagonal = gram.diagonal(dim1=1, dim2=2)
        average = diagonal.mean(dim=1, keepdim=True)
        damping = (ridge + FLOOR) * average.expand_as(diagonal)
        damping = torch.where(damping > 0, damping, 1.0)
        change = solve_on_supports(gram + torch.diag_embed(damping), cross, support)
        shift = lacking - (change * mean).sum(dim=2, keepdim=True)
        return torch.cat([change, shift if intercept else torch.zeros_like(shift)], dim=2)

    def error(self, change: Tensor) -> Tensor:
        """Return the sum of squares that is left after a change of the weights, shape (groups, out)."""
        linear, square = self._terms(change)
        return (self.energy - 2 * linear + square).clamp(min=0)

    def shortened(self, change: Tensor) -> Tensor:
        """Return each row's change times the factor between 0 and 1 that leaves the least on these rows."""
        linear, square = self._terms(change)
        factor = torch.where(square > 0, linear / torch.where(square > 0, square, 1.0), 0.0)
        return change * factor.clamp(0, 1)[..., None]

    def _terms(self, change: Tensor) -> tuple[Tensor, Tensor]:
        """Return the linear and the quadratic term of the error."""
        return (change * self.cross).sum(dim=2), (change * (change @ self.gram)).sum(dim=2)


def solve_on_supports(gram: Tensor, right: Tensor, support: Tensor) -> Tensor:
    """Solve ``gram[S, S] x[S] = right[S]`` for each row of ``right`` on its own support S.

    Args:
        gram: Symmetric positive definite matrices, shape (groups, K, K).
        right: Right-hand sides, shape (groups, rows, K).
        support: Which elements may differ from zero, boolean, the shape of ``right``.

    Returns:
        The solutions, zero outside the supports: by Cholesky factors of each distinct support, or by conjugate
        gradients where those take fewer operations, because supports are many.
    """
    if gram.shape[1] <= BATCHED_COLUMNS:
        return _solve_batched(gram, right, support)
    distinct = [torch.unique(rows, dim=0, return_inverse=True) for rows in support]
    direct = sum(float((kept.sum(dim=1).double() ** 3 / 3).sum()) for kept, _ in distinct)
    if direct > 2 * STEPS * right.numel() * gram.shape[1]:
        return masked_conjugate_gradients(gram, right, support)
    solution = torch.zeros_like(right)
    for group, (kept, member) in enumerate(distinct):
        for place, one in enumerate(kept):
            columns, rows = one.nonzero()[:, 0], (member == place).nonzero()[:, 0]
            factor = torch.linalg.cholesky(gram[group][columns[:, None], columns])
            solved = torch.cholesky_solve(right[group][rows[:, None], columns].T, factor)
            solution[group, rows[:, None], columns] = solved.T
    return solution


def _solve_batched(gram: Tensor, right: Tensor, support: Tensor) -> Tensor:
    """Factor one small system per row, the columns outside its support replaced by those of a unit matrix."""
    groups, rows, columns = right.shape
    flat, kept = right.reshape(-1, columns), support.reshape(-1, columns)
    step = max(1, BATCH_ELEMENTS // columns**2)
    parts = []
    for start in range(0, groups * rows, step):
        inside = kept[start : start + step]
        group = torch.arange(start, start + len(inside), device=gram.device) // rows
        system = gram[group] * (inside[:, :, None] & inside[:, None, :])
        system.diagonal(dim1=1, dim2=2).add_(~inside)
        values = (flat[start : start + step] * inside)[..., None]
        parts.append(torch.cholesky_solve(values, torch.linalg.cholesky(system))[..., 0])
    return torch.cat(parts).reshape(right.shape)
