"""The terminal report fits, adds up, and survives narrow and ASCII terminals and odd names."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from smartc.reporting.learning_facts import learning_texts
from smartc.reporting.terminal import render_terminal
from smartc.results.report import Report
from tests.support.synthetic_report import learned, residual_report


def _lines(report: Report, width: int = 100, encoding: str = "utf-8", show_all: bool = False) -> list[str]:
    """Return what is printed; writing fails where the encoding lacks a character."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    render_terminal(report, Console(width=width, file=file), show_all)
    file.flush()
    return raw.getvalue().decode(encoding).splitlines()


def _starting(lines: list[str], start: str) -> str:
    """Return the one line that starts so."""
    (found,) = [line for line in lines if line.startswith(start)]
    return found.rstrip()


def _words(lines: list[str], start: str) -> str:
    """Return the one line that starts so, with single spaces."""
    return " ".join(_starting(lines, start).split())


def test_header_states_totals_kind_and_assumption() -> None:
    text = " ".join(line.strip("│ ") for line in _lines(residual_report()))
    for part in (
        "resnet20.pt2 on npu-8x8, by smartc 0.1.0",
        "npu-8x8 (generic), at most 64 MACs per cycle",
        "1.07 ms → 0.493 ms, 2.17x as fast (simulated)",
        "0.543 ms if no zero tile were skipped",
        "sparsity 0.5, reached 0.497 of the prunable channels",
        "342 of 688 prunable channels removed",
        "272 kB → 106 kB (-61.0 %)",
        "91.7 % → 90.5 % (-1.2 points) on 1000 inputs of fashion-mnist-test.npz",
        "96.4 % the same top-1, cosine 0.9923, largest difference 0.413, on 256 inputs (calibration images)",
        "removed ok: relative error 4.4e-16 (tolerance 1e-10), absolute 3.1e-14, on 8 seeded inputs",
        "skip 8 x 8 weight tiles that are all zero",
    ):
        assert part in text


def test_rows() -> None:
    lines = _lines(residual_report())
    assert _words(lines, "layer1.0.conv1 ") == (
        "layer1.0.conv1 conv 3x3 16→8x28x28 1.8M→900k 2.3k→1.2k 56.5→28.3 2.00x compute 100% channel 2"
    )
    assert _words(lines, "layer1.0.add ") == "layer1.0.add add 16x28x28 6.3 1.00x memory dense"
    assert _words(lines, "17 others") == "17 others 47.7→27.7 1.72x"
    assert _words(lines, "total") == "total 31M→ 13M 270k→110k 1070→ 493 2.17x 84%"


def test_reasons_are_grouped_below() -> None:
    lines = _lines(residual_report(blocks=1))
    assert _starting(lines, "1 a ") == "1 a smaller cut saves no whole tile of 8: conv1"
    assert _starting(lines, "2 half ") == (
        "2 half of the channels have the smallest scores: layer1.0.conv1, layer2.0.conv1, layer3.0.conv1"
    )
    assert _starting(lines, "4 is ") == "4 is a model output: fc"
    assert _starting(lines, "remark ") == "remark layer2.0.conv1: its input is read twice"


@pytest.mark.parametrize("blocks", [1, 3, 9])
def test_show_all_gives_every_layer_a_row(blocks: int) -> None:
    report = residual_report(blocks)
    starts = {line.split(" ")[0] for line in _lines(report, width=140, show_all=True)}
    assert {layer.name for layer in report.layers} <= starts
    assert not any(line.startswith("others") for line in starts)


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
@pytest.mark.parametrize("blocks", [1, 9])
def test_fits_the_width(width: int, blocks: int) -> None:
    lines = _lines(residual_report(blocks), width)
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)


def test_narrow_terminals_leave_columns_out_but_not_times() -> None:
    row = _words(_lines(residual_report(), 80), "layer1.0.conv1 ")
    assert row == "layer1.0.conv1 16→8x28x28 1.8M→900k 2.3k→1.2k 56.5→28.3 2.00x 100% channel 2"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_other_encodings(encoding: str) -> None:
    layer = replace(residual_report().layers[0], name="Schicht_ü→層", reason="weil Ω")
    lines = _lines(replace(residual_report(), layers=(layer,)), encoding=encoding)
    assert any("1.07 ms -> 0.493 ms" in line for line in lines)
    assert max(map(len, lines)) <= 100


def test_markup_in_names_is_text() -> None:
    layer = replace(residual_report().layers[0], name="[bold]x[/nothing]", reason="[red]")
    lines = _lines(replace(residual_report(), model="[/]", layers=(layer,)))
    assert "[/] on npu-8x8" in lines[0]
    assert _starting(lines, "1 [red]") == "1 [red]: [bold]x[/nothing]"


def test_learning_takes_three_lines() -> None:
    lines = [" ".join(line.strip("│ ").split()) for line in _lines(replace(residual_report(), learning=learned()))]
    start = lines.index("learning smart, 200 steps of 64 samples, on 640 samples of photos/, seed 7")
    assert lines[start + 1 : start + 3] == [
        "distillation, loss 2.40 → 0.334, in bfloat16",
        "masks made hard after 150 steps, 0.3 % of them fractional just before",
    ]


def test_learning_without_steps_or_losses() -> None:
    learning = replace(learned(), steps=0, search_steps=0, learner="magnitude", curve=(), samples=None)
    assert learning_texts(learning) == ("magnitude, no training steps, on samples of photos/, seed 7",)
    blind = tuple(replace(moment, loss=None) for moment in learned().curve)
    one = replace(learned(), steps=1, search_steps=0, source="", curve=blind)
    assert learning_texts(one) == ("smart, 1 step of 64 samples, seed 7", "distillation, in bfloat16")
    known = replace(one, curve=(learned().curve[0],))
    assert learning_texts(known)[1] == "distillation, loss 2.40, in bfloat16"


def test_measured_and_failed_are_said() -> None:
    report = residual_report()
    failed = replace(report.verify[0], max_rel_error=1e-3)
    measured = replace(report.latency, kind="measured", without_skipping=None)
    text = "\n".join(_lines(replace(report, latency=measured, provenance="measured", verify=(failed,))))
    assert "removed FAILED: relative error 1e-3" in text
    assert "(measured)" in text
    assert "simulated" not in text.lower()
    assert "skipped" not in text


def test_skipped_tiles_have_a_column() -> None:
    report = residual_report()
    layer = report.layers[0]
    sparse = replace(layer, decision="block", compiled=replace(layer.compiled, tiles=(9, 36)))
    row = _starting(_lines(replace(report, layers=(sparse, *report.layers[1:])), 120), "conv1 ")
    assert row.split()[4] == "25%"


@pytest.mark.parametrize("count", [0, 1])
def test_tiny_networks(count: int) -> None:
    report = residual_report()
    lines = _lines(replace(report, layers=report.layers[:count], remarks=(), artifacts={}, seconds={}))
    assert sum(line.startswith("conv1") for line in lines) == count
