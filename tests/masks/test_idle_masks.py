"""Masks that save no time on their target say so."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import smartc


@pytest.mark.parametrize(
    ("target", "granularity", "sparsity", "expected"),
    [
        ("npu-8x8", "2:4", None, "no time is saved: it has no faster way with 2:4 patterns"),
        ("npu-8x8-dense", "8x8", 0.1, "no time is saved: it computes zero tiles as it does others"),
        ("npu-8x8", "8x8", 0.5, None),
        ("npu-8x8-dense", "channel", 0.5, None),
    ],
)
def test_why_no_time_is_saved(target: str, granularity: str, sparsity: float | None, expected: str | None) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Conv2d(32, 8, 1)).eval()
    example = torch.randn(2, 16, 12, 12)
    report = smartc.compile(net, example, target=target, granularity=granularity, sparsity=sparsity, backends=()).report
    assert (report.latency.speed_up > 1) == (expected is None)
    assert [remark.text for remark in report.remarks if "no time" in remark.text] == ([expected] if expected else [])
    assert all(remark.where == target for remark in report.remarks if remark.text == expected)
