"""What a compilation did to the outputs, where not all of them can be compared."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import smartc


class Detections(nn.Module):
    """Scores, and those of them that exceed a number: how many these are hangs on the values."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 32), nn.Linear(32, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, 8) to (N, 8) and (K,)."""
        scores = self.second(torch.relu(self.first(x)))
        return scores, scores[scores > 0.1]


def test_outputs_of_another_shape_are_left_out() -> None:
    torch.manual_seed(0)
    compiled = smartc.compile(Detections().eval(), torch.randn(2, 8), target="npu-8x8", sparsity=0.5, backends=("pt2",))
    agreement = compiled.report.agreement
    assert agreement.source == "seeded normal inputs, without 1 outputs whose shapes hang on values"
    assert agreement.top1 is not None
    assert all(proof.passed for proof in compiled.report.verify)
