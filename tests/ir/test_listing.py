"""A model as text: shapes with the batch as N, tensors by their names, layers by the user's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from smartc.frontend.capture import trace
from smartc.ir.listing import listing


class Folded(nn.Module):
    """A product whose batch is folded into another axis, with a tuple of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, 3, 4) to (3N, 6) and (N, 3, 4)."""
        return self.first(x.flatten(0, 1)), x


def test_reads_as_a_program() -> None:
    lines = listing(trace(Folded().eval(), torch.randn(2, 3, 4))).splitlines()
    assert lines[:3] == ["model Folded", "input x: float32 Nx3x4", ""]
    shortened = [" ".join(line.split()) for line in lines[3:]]
    assert shortened == [
        "%first_weight = tensor first.weight float32[6, 4]",
        "%first_bias = tensor first.bias float32[6]",
        "%x = input float32[N, 3, 4]",
        "%flatten = flatten(%x, 0, 1) float32[3N, 4] # flatten",
        "%linear = linear(%flatten, %first_weight, %first_bias) float32[3N, 6] # first",
        "return [%linear, %x]",
    ]
