"""How much the outputs of two models agree."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree

from smartc.results.figures import Agreement


def agreement(reference: Any, outputs: Any, inputs: int, source: str) -> Agreement:
    """Return how close outputs are to a reference; both may be a list of the outputs of batches.

    Args:
        reference: Any structure of tensors whose axis 0 is the batch.
        outputs: The same structure.
        inputs: How many inputs there were.
        source: Where they came from.

    Returns:
        ``top1`` over all outputs of shape (N, classes), None if there are none; ``cosine`` averaged over
        inputs and outputs; ``max_abs`` over all elements.

    Raises:
        ValueError: The structures or shapes differ.
    """
    pairs = _pairs(reference, outputs)
    classes = [(a, b) for a, b in pairs if a.ndim == 2 and a.shape[1] > 1 and a.is_floating_point()]
    same = [a.argmax(1).eq(b.argmax(1)) for a, b in classes if len(a)]
    cosines = [_cosines(a.double(), b.double()) for a, b in pairs if a.numel()]
    return Agreement(
        inputs=inputs,
        source=source,
        top1=float(torch.cat(same).double().mean()) if same else None,
        cosine=float(torch.cat(cosines).mean()) if cosines else 1.0,
        max_abs=max((_largest_difference(a, b) for a, b in pairs if a.numel()), default=0.0),
    )


def _pairs(reference: Any, outputs: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the tensors of two structures side by side."""
    left, left_tree = pytree.tree_flatten(reference)
    right, right_tree = pytree.tree_flatten(outputs)
    if left_tree != right_tree:
        raise ValueError(f"the outputs differ in structure: {left_tree} and {right_tree}")
    pairs = [(a.detach(), b.detach()) for a, b in zip(left, right, strict=True) if torch.is_tensor(a)]
    for a, b in pairs:
        if a.shape != b.shape:
            raise ValueError(f"the outputs differ in shape: {tuple(a.shape)} and {tuple(b.shape)}")
    return pairs


def _cosines(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return the cosine for each input, shape (N,); 1 where both are zero, 0 where only one is."""
    left, right = (value.reshape(len(value) if value.ndim else 1, -1) for value in (left, right))
    norms = left.norm(dim=1) * right.norm(dim=1)
    both_zero = (left == 0).all(1) & (right == 0).all(1)
    cosines = (left * right).sum(1) / torch.where(norms == 0, 1.0, norms)
    return torch.where(both_zero, 1.0, cosines)


def _largest_difference(left: torch.Tensor, right: torch.Tensor) -> float:
    """Return the largest absolute difference; equal infinities and two NaN do not differ."""
    left, right = left.double(), right.double()
    same = (left == right) | (left.isnan() & right.isnan())
    return float(torch.where(same, 0.0, (left - right).abs()).max())
