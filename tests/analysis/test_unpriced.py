"""Calls with parameters and without a price are told."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import smartc
from smartc.analysis.analyse import analysed
from smartc.analysis.unpriced import unpriced
from smartc.frontend.capture import trace


class Trilinear(nn.Module):
    """A product of two inputs and a weight between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.mix, self.last = nn.Linear(8, 16), nn.Bilinear(16, 16, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 8) to (N, 4)."""
        x = self.first(x)
        return self.last(self.mix(x, x))


def test_the_report_names_what_has_no_price() -> None:
    x = torch.randn(2, 8)
    model = trace(Trilinear().eval(), x)
    text = "`bilinear` has no price: times and multiplications leave out what it does with mix.weight"
    assert unpriced(model, analysed(model)) == (("mix", text, False),)
    compiled = smartc.compile(Trilinear().eval(), x, target="npu-8x8", backends=())
    assert ("mix", text) in [(remark.where, remark.text) for remark in compiled.report.remarks]


def test_nothing_is_told_of_what_is_priced_or_free() -> None:
    model = trace(nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.PReLU(8)).eval(), torch.randn(2, 8))
    assert unpriced(model, analysed(model)) == ()
