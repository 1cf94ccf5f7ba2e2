"""``smartc compare`` puts two builds side by side."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import smartc
from smartc.cli.main import main
from smartc.results.formats import significant, times
from smartc.results.report import Report
from tests.support.small_networks import SHAPE, small


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Compile the small network twice."""
    folder = tmp_path_factory.mktemp("builds")
    traced = smartc.trace(small(), torch.randn(2, *SHAPE))
    for name, sparsity in (("some", 0.2), ("more", 0.6)):
        smartc.compile(traced, target="npu-8x8", sparsity=sparsity, backends=("pt2",)).save(folder / name)
    return folder / "some", folder / "more"


def _lines(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> list[str]:
    """Return what a command prints, blanks put together."""
    assert main([str(argument) for argument in arguments]) == 0
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_totals_and_layers(builds: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    lines = _lines(capsys, "compare", *builds, "--all")
    first, second = (Report.load(build / "report.json") for build in builds)
    assert f"speed-up {times(first.latency.speed_up)} {times(second.latency.speed_up)}" in lines
    for one, other in zip(first.layers, second.layers, strict=True):
        row = next(line for line in lines if line.startswith(f"{one.name} "))
        if other.compiled.ms:
            before, after = one.compiled.ms, other.compiled.ms
            assert row.endswith(f"{significant(before)} {significant(after)} {times(before / after)}")
    total = (first.latency.compiled, second.latency.compiled)
    assert f"total {significant(total[0])} {significant(total[1])} {times(total[0] / total[1])}" in lines
    assert lines[-1] == "times are after compilation; gain: how many times faster the second is"


def test_a_build_and_itself(builds: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    lines = _lines(capsys, "compare", builds[0], builds[0])
    assert any(line.startswith("total ") and line.endswith(" 1.00x") for line in lines)


def test_of_another_network_is_refused(
    builds: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2))
    smartc.compile(other, torch.zeros(2, 4), target="npu-8x8", backends=("pt2",)).save(tmp_path / "other")
    assert main(["compare", str(builds[0]), str(tmp_path / "other")]) == 2
    message = f"smartc: {builds[0]} and {tmp_path / 'other'}: they have no layer in common. "
    assert capsys.readouterr().err == f"{message}Compare two builds of the same network.\n"
