"""What a report says of the whole: what its times are for."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import smartc
from smartc.results.report import Report


class FixedBatch(nn.Module):
    """A network that takes three samples, no more and no less."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        """Map (3, 16) to (3, 16)."""
        return self.second(self.first(x.reshape(3, 16)).relu())


def report_of(module: nn.Module) -> Report:
    """Return the report of a compile."""
    return smartc.compile(module.eval(), torch.randn(3, 16), target="npu-8x8", backends=()).report


def test_a_time_is_for_one_sample_where_the_batch_is_free() -> None:
    report = report_of(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16)))
    assert report.assumption.endswith(". Times are for one sample.")
    assert report.to_dict()["latency"]["samples"] == 1


def test_a_time_is_for_the_batch_where_that_is_fixed() -> None:
    report = report_of(FixedBatch())
    assert report.assumption.endswith(". Times are for the fixed batch of 3.")
    assert report.to_dict()["latency"]["samples"] == 3
    assert report.summary.macs.dense == 3 * 2 * 16 * 32
