"""The target `cpu` from the command line to the report, with injected times and once with real ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import smartc
from smartc.cli import calibrate as command_calibrate
from smartc.cli.main import main
from smartc.measuring import bench, measured_target
from smartc.measuring.bench import NO_TVM
from smartc.measuring.calibrate import calibrate
from smartc.measuring.measurement import NetworkTimes
from smartc.measuring.processor import has_tvm, processor_name
from smartc.measuring.timing import Timing
from smartc.targets.target import load_target
from tests.support.cost_tables import TINY, by_work, table
from tests.support.injected_times import X, compiled_blocks, inject, network, network_of

pytestmark = pytest.mark.usefixtures("cost_table")
needs_tvm = pytest.mark.skipif(not has_tvm(), reason="TVM is not installed")


def test_the_report_is_measured_throughout(monkeypatch: pytest.MonkeyPatch) -> None:
    inject(monkeypatch, dict.fromkeys(("0", "2", "6"), 0.25))
    report = compiled_blocks(latency="0.9x").report
    assert (report.provenance, report.latency.kind, report.latency.file) == ("measured", "measured", "model.so")
    assert report.latency.without_skipping is None
    assert report.latency.spread == (0.1, 0.1)
    assert {layer.compiled.cycles for layer in report.layers} == {0.0}
    assert report.layer("rest").compiled.ms == 0.5
    assert report.latency.dense == pytest.approx(sum(layer.dense.ms for layer in report.layers))
    ratio = report.latency.compiled / report.latency.dense
    assert report.budget.reached.endswith(f" by the table of kernels, {ratio:.4f}x measured")
    assert f"on this machine, {processor_name()}, on one thread" in report.assumption


def test_channels_go_with_onnx_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, _ = inject(monkeypatch, {"0": 0.5, "2": 0.5})
    for module in (bench, measured_target):
        monkeypatch.setattr(module, "has_tvm", lambda: False)
    monkeypatch.setattr("smartc.measuring.cost_table_file.installed_versions", dict)
    compiled = smartc.compile(network(), X, target="cpu", sparsity=0.4)
    assert asked == [["model.onnx"]]
    assert compiled.report.latency.file == "model.onnx"
    assert NO_TVM in {remark.text for remark in compiled.report.remarks}
    assert compiled.report.layer("0").decision == "channel"


def test_a_file_that_is_slower_is_called_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    inject(monkeypatch, dict.fromkeys(("0", "2", "6"), 3.0))
    report = smartc.compile(network(), X, target="cpu", sparsity=0.4, backends=("onnx",)).report
    assert {report.layer(name).decision for name in ("0", "2", "6")} == {"dense"}
    assert {(remark.where, remark.text) for remark in report.remarks} == {
        (
            "model.onnx",
            "is slower than the original: it takes 10.5 ms ± 0.100 ms, and dense ONNX Runtime 4.50 ms ± 0.100 ms; "
            "nothing was gained on this machine",
        )
    }


def test_other_files_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, _ = inject(monkeypatch, {"0": 0.5})
    report = smartc.compile(network(), X, target="cpu", sparsity=0.4, backends=("onnx", "tvm")).report
    assert asked == [["model.onnx", "model.so"]]
    remark = next(remark for remark in report.remarks if remark.where == "model.so")
    assert remark.text == f"takes {report.latency.compiled:.2f} ms (measured), 1.12x as fast as dense ONNX Runtime"


def test_layers_that_are_slower_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    inject(monkeypatch, {"0": 0.1, "2": 1.2, "6": 1.05})
    report = smartc.compile(network(), X, target="cpu", sparsity=0.4, backends=("onnx",)).report
    assert {(remark.where, remark.text) for remark in report.remarks} == {
        ("model.onnx", "1 layer is slower than in dense ONNX Runtime, whose times are in brackets: 2 1.20 ms (1.00 ms)")
    }
    inject(monkeypatch, {"0": 0.1, "2": 1.2, "6": 1.3})
    report = smartc.compile(network(), X, target="cpu", sparsity=0.4, backends=("onnx",)).report
    assert [remark.text for remark in report.remarks] == [
        "2 layers are slower than in dense ONNX Runtime, whose times are in brackets: "
        "2 1.20 ms (1.00 ms), 6 1.30 ms (1.00 ms)"
    ]


def test_blocks_are_reported_on_the_faster_file(monkeypatch: pytest.MonkeyPatch) -> None:
    inject(monkeypatch, {"0": 0.9, "2": 0.9})
    measured = bench.measure

    def onnx_is_fast(*arguments: Any) -> tuple[NetworkTimes, dict[str, NetworkTimes]]:
        before, after = measured(*arguments)
        fast = {name: Timing(0.5, 0.05) for name in before.layers}
        return before, {**after, "model.onnx": network_of(fast)}

    monkeypatch.setattr(bench, "measure", onnx_is_fast)
    report = compiled_blocks(sparsity=0.5).report
    assert report.latency.file == "model.onnx"
    assert {report.layer(name).decision for name in ("0", "2")} == {"dense"}, "by the times of the file with blocks"
    assert [remark.where for remark in report.remarks] == ["model.so"]


def test_without_lowering_times_are_those_of_the_table() -> None:
    compiled = smartc.compile(network(), X, target="cpu", sparsity=0.4, backends=())
    assert compiled.report.latency.kind == "estimated"


@pytest.mark.slow
@needs_tvm
def test_really_measures(tmp_path: Path) -> None:
    report = compiled_blocks(sparsity=0.5).report
    assert report.latency.kind == "measured"
    for name in ("0", "2", "6"):
        layer = report.layer(name)
        assert layer.dense.ms > 0
        assert layer.compiled.ms > 0
        if layer.decision == "block":
            assert layer.dense.spread_ms is not None
            assert layer.compiled.ms < layer.dense.ms
    assert report.latency.dense == pytest.approx(sum(layer.dense.ms for layer in report.layers))


@pytest.mark.slow
def test_calibrates(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    random = torch.get_rng_state()
    found = calibrate(lambda done, total: seen.append((done, total)), TINY)
    assert torch.equal(torch.get_rng_state(), random)
    found.check()
    assert found.has_packed == has_tvm()
    assert {point.kind for point in found.points} >= {"matrix", "linear", "depthwise", "vector"}
    assert all(point.us > 0 and point.spread_us >= 0 for point in found.points)
    assert seen[0][0] == 0
    assert seen[-1][0] == seen[-1][1]
    assert found.peak > 0


def test_calibrate_from_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cost_table: Path
) -> None:
    cost_table.unlink()
    monkeypatch.setattr("smartc.measuring.calibrate.calibrate", lambda watch: table(by_work))
    assert main(["targets", "calibrate", "cpu"]) == 0
    assert capsys.readouterr().out == f"measured 117 kernels on {processor_name()} in 2 s: {cost_table}\n"
    assert cost_table.is_file()


def test_shows_the_table(capsys: pytest.CaptureFixture[str], cost_table: Path) -> None:
    assert main(["targets", "cpu"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == f"cpu is measured on this machine, {processor_name()}, on one thread."
    assert lines[1].startswith(f"117 kernels in {cost_table}, of 2026-01-02T03:04:05+00:00, with onnxruntime ")
    assert "kernel taps pixels channels live tiles time spread GMAC/s" in lines
    cost_table.unlink()
    assert main(["targets", "cpu"]) == 0
    want = "cpu is measured on this machine, and it was not yet measured. Run smartc targets calibrate cpu.\n"
    assert capsys.readouterr().out == want


def test_says_that_a_table_is_noisy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cost_table: Path
) -> None:
    calm = table(by_work)
    noisy = replace(calm, points=tuple(replace(point, spread_us=0.2 * point.us) for point in calm.points))
    text = (
        "the table of kernels is noisy: half of its times spread by 20% or more. "
        "Close what else runs, and run smartc targets calibrate cpu again"
    )
    monkeypatch.setattr("smartc.measuring.calibrate.calibrate", lambda watch: noisy)
    assert main(["targets", "calibrate", "cpu"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == f"{text}."
    assert main(["targets", "cpu"]) == 0
    assert f"{text}.\n" in capsys.readouterr().out
    inject(monkeypatch, {})
    report = smartc.compile(network(), X, target="cpu", sparsity=0.4, backends=("onnx",)).report
    assert ("cpu", text) in {(remark.where, remark.text) for remark in report.remarks}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["calibrate"], "targets calibrate: one target is measured at a time. Give cpu."),
        (["calibrate", "npu-8x8"], "targets calibrate npu-8x8: only this machine can be measured. Give cpu."),
        (["cpu", "npu-8x8"], "targets cpu npu-8x8: one target is shown at a time. Give one name."),
    ],
)
def test_refuses(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(["targets", *arguments]) == 2
    assert capsys.readouterr().err == f"smartc: {message}\n"


def test_says_that_it_measures_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cost_table: Path
) -> None:
    def measured(watch: Callable[[int, int], None]) -> Any:
        watch(0, 1)
        return table(by_work)

    monkeypatch.setattr("smartc.measuring.measured_target.calibrate", measured)
    for said in ("", "smartc: this machine has no cost table yet: measuring it takes half a minute or more, once\n"):
        found = command_calibrate.with_costs(load_target("cpu"), ("onnx",))
        assert found.provenance == "measured"
        assert capsys.readouterr().err == said
        cost_table.unlink()
