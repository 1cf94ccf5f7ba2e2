"""What the soft top-k takes: memory for many units, and a table of times."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.soft_top_k_by_hand import SPENT

pytestmark = pytest.mark.slow

MEMORY = """
import resource, torch
from smartc import soft_top_k
soft_top_k(torch.randn(100_000), 1000, 0.1).sum()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
scores = torch.randn(10_000_000, requires_grad=True)
soft_top_k(scores, 3e6, 0.1).square().sum().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_ten_million_units_fit_in_a_gibibyte() -> None:
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, timeout=300)
    assert int(run.stdout) < 2**20  # KiB


def test_benchmark_prints_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    script = str(Path(__file__).parents[3] / "benchmarks" / "soft_top_k.py")
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", [script, "--threads", "1", "--units", "20000", "--rounds", "1"])
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        torch.set_num_threads(threads)
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split() == ["threads", "units", "call", "ms", "sigmoid", "ratio", "sum", "off", "by"]
    assert len(lines) == 4
    assert all(float(line.split()[-1]) < SPENT[torch.float32] for line in lines)
