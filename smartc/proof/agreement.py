"""How much the outputs of two models agree."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from smartc.results.figures import Agreement

# Numbers that are taken to float64 at a time.
_PART = 2**22


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
    found = AgreementSum()
    found.add(reference, outputs)
    return found.result(inputs, source)


@dataclass
class AgreementSum:
    """How close outputs are to a reference, batch after batch.

    Attributes:
        same: For each batch whether the largest score of each input is the same.
        cosines: For each batch and output the cosine of each input.
        max_abs: The largest difference.
    """

    same: list[torch.Tensor] = field(default_factory=list)
    cosines: list[torch.Tensor] = field(default_factory=list)
    max_abs: float = 0.0

    def add(self, reference: Any, outputs: Any) -> None:
        """Take one batch in.

        Raises:
            ValueError: The structures or shapes differ.
        """
        for a, b in _pairs(reference, outputs):
            if a.ndim == 2 and a.shape[1] > 1 and a.is_floating_point() and len(a):
                self.same.append(a.argmax(1).eq(b.argmax(1)))
            if a.numel():
                self.cosines.append(_cosines(a, b))
                self.max_abs = float(np.maximum(self.max_abs, _largest_difference(a, b)))  # NaN stays

    def result(self, inputs: int, source: str) -> Agreement:
        """Return what there is to say of all batches."""
        return Agreement(
            inputs=inputs,
            source=source,
            top1=float(torch.cat(self.same).double().mean()) if self.same else None,
            cosine=float(torch.cat(self.cosines).mean()) if self.cosines else 1.0,
            max_abs=self.max_abs,
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
    sums = torch.zeros((5, len(left)), dtype=torch.float64)
    # In parts, since float64 copies of large maps would fill the memory.
    width = max(1, _PART // len(left))
    for a, b in zip(left.split(width, 1), right.split(width, 1), strict=True):
        a, b = a.double(), b.double()
        parts = ((a * b).sum(1), a.square().sum(1), b.square().sum(1), (a != 0).any(1), (b != 0).any(1))
        sums += torch.stack([part.double() for part in parts])
    product, first, second, *nonzero = sums
    norms = first.sqrt() * second.sqrt()
    return torch.where(sum(nonzero) == 0, 1.0, product / torch.where(norms == 0, 1.0, norms))


def _largest_difference(left: torch.Tensor, right: torch.Tensor) -> float:
    """Return the largest absolute difference; equal infinities and two NaN do not differ."""
    largest = []
    for a, b in zip(left.flatten().split(_PART), right.flatten().split(_PART), strict=True):
        a, b = a.double(), b.double()
        same = (a == b) | (a.isnan() & b.isnan())
        largest.append(torch.where(same, 0.0, (a - b).abs()).max())
    return float(torch.stack(largest).max())
