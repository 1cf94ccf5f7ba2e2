"""A model that is of no use is told of, and refused where the user says what it must be worth."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

import smartc
from smartc.cli.main import main
from smartc.core.errors import UserError
from smartc.proof.limits import LEAST_ACCURACY_LEFT, LEAST_AGREEMENT, collapse
from smartc.reporting.html_page import render_html
from smartc.reporting.terminal import render_terminal
from smartc.results.figures import Agreement, Evaluation
from smartc.results.report import Report
from tests.support.small_networks import SHAPE, small

FINE = Agreement(8, "photos", 1.0, 1.0, 0.0)
ADVICE = "lower the budget, or learn from data, longer or from more"


def test_what_is_a_collapse() -> None:
    kept = Evaluation("x", "accuracy", 10, 0.9, LEAST_ACCURACY_LEFT * 0.9)
    lost = Evaluation("x", "accuracy", 10, 0.9, 0.0)
    assert list(collapse(FINE, kept)) == list(collapse(FINE, None)) == []
    (warning,) = collapse(FINE, lost)
    assert (warning.where, warning.level) == ("accuracy", "warning")
    assert warning.text == f"fell from 90.0 % to 0.0 %: less than 90% of it is left; {ADVICE}"
    assert list(collapse(FINE, Evaluation("x", "loss", 10, 0.9, 0.0))) == []
    assert list(collapse(Agreement(8, "x", LEAST_AGREEMENT, 0.1, 0.0), None)) == []
    (warning,) = collapse(Agreement(8, "photos", 0.125, 1.0, 0.0), None)
    assert warning.text == f"12.5 % have the same top-1 as the original, on 8 inputs (photos): {ADVICE}"
    (warning,) = collapse(Agreement(8, "photos", None, 0.25, 0.0), None)
    assert warning.text.startswith("the cosine to the original's outputs is 0.2500 on 8 inputs (photos): ")
    assert len(list(collapse(Agreement(8, "photos", None, float("nan"), 0.0), None))) == 1


def test_a_collapse_is_above_everything_else() -> None:
    (warning,) = collapse(FINE, Evaluation("test.npz", "accuracy", 10, 0.9, 0.0))
    report = smartc.compile(small(), torch.zeros(2, *SHAPE), target="npu-8x8", backends=()).report
    report = Report.from_dict({**report.to_dict(), "remarks": [vars(warning)]})
    console = Console(width=200, force_terminal=True, color_system="standard", record=True)
    with console.capture() as capture:
        render_terminal(report, console)
    first = capture.get().splitlines()[0]
    assert "WARNING" in first
    assert "accuracy: fell from 90.0 % to 0.0 %" in first
    assert "\x1b[1;31m" in first
    body = render_html(report).split("<body>")[1]
    assert body.index('<p class="warning"') < body.index("<h1>")


def _labelled(path: Path) -> Path:
    """Save inputs with the labels that the small classifier gives them."""
    inputs = 4 * torch.randn(64, *SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = small()(inputs).argmax(1)
    np.savez(path, inputs=inputs.numpy(), labels=labels.numpy())
    return path


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (
            "--min-accuracy=1.01",
            r"--min-accuracy 1\.01: accuracy is [\d.]+ % and was 100\.0 %, on 64 inputs of x\.npz\.",
        ),
        ("--min-agreement=1", r"--min-agreement 1\.0: [\d.]+ % have the same top-1 as the original, on 64 inputs"),
    ],
)
def test_what_is_worth_too_little_is_not_written(
    model_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], limit: str, message: str
) -> None:
    data = _labelled(tmp_path / "x.npz")
    build = tmp_path / "build"
    command = ("compile", model_files / "program.pt", "--target=npu-8x8", "--sparsity=0.7", "--eval", data, "-o", build)
    assert main([*map(str, command), limit]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("smartc: ")
    assert re.match(message, line.removeprefix("smartc: "))
    assert line.endswith(f"Take less, or {ADVICE}.")
    assert not build.exists()
    lowest = limit.split("=")[0] + "=0"
    assert main([*map(str, command), lowest]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_accuracy": 0.9}, "min_accuracy=0.9: there is nothing to evaluate on. Add evaluate=..."),
        ({"min_agreement": 90}, "min_agreement=90: not a share of inputs. Give a number from 0 to 1."),
    ],
)
def test_limits_that_nothing_can_meet(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        smartc.compile(small(), torch.zeros(2, *SHAPE), target="npu-8x8", **options)
    assert str(caught.value) == message
