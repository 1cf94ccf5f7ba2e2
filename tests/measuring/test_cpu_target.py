"""The target `cpu` from the command line to the report, with injected times and once with real ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import smartc
from smartc.analysis.find_layers import Layers
from smartc.artifact.compiled import Compiled
from smartc.cli import calibrate as command_calibrate
from smartc.cli.main import main
from smartc.ir.traced_model import Remark, TracedModel
from smartc.lowering import files
from smartc.lowering.lower import Lowered
from smartc.measuring import bench, measured_target
from smartc.measuring.bench import NO_TVM
from smartc.measuring.calibrate import calibrate
from smartc.measuring.cost_table_file import write_table
from smartc.measuring.measurement import Dense, NetworkTimes
from smartc.measuring.processor import has_tvm, processor_name
from smartc.measuring.timing import Timing
from smartc.targets.target import load_target
from tests.support.cost_tables import TINY, by_work, table

needs_tvm = pytest.mark.skipif(not has_tvm(), reason="TVM is not installed")


@pytest.fixture(autouse=True)
def cost_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep a table whose times follow from a formula."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_table(table(by_work))


X = torch.randn(2, 32, 7, 7, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    """Return two convolutions and a classifier."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(32, 48, 3, padding=1), nn.ReLU(), nn.Conv2d(48, 48, 3, padding=1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 4)),
    ).eval()


def inject(
    monkeypatch: pytest.MonkeyPatch, compiled: Mapping[str, float]
) -> tuple[list[list[str]], list[dict[str, bool]]]:
    """Make every layer take 1 ms in the dense network, and what is given in the files; return what was timed.

    Files are PyTorch's in disguise: what they compute is proved, and nothing takes long.
    """
    asked: list[list[str]] = []
    dense_layers: list[dict[str, bool]] = []

    def lowered_to(
        model: TracedModel, backends: Sequence[str], metadata: Mapping[str, str], **options: Any
    ) -> tuple[list[Lowered], list[Remark]]:
        names = {"onnx": "model.onnx", "tvm": "model.so"}
        timed = [
            Lowered(names[name], f"masked == {name}", Path.touch, model.run, torch.float32, lambda inputs: None)
            for name in backends
        ]
        dense_layers.append(dict(options["dense"]))
        return timed, []

    def measured(
        dense: Dense, lowered: Mapping[str, Lowered], layers: Layers
    ) -> tuple[NetworkTimes, dict[str, NetworkTimes]]:
        asked.append(list(lowered))
        before = {row.name: Timing(1.0, 0.05) for row in dense.layers.rows}
        after = {row.name: Timing(compiled.get(row.name, 1.0), 0.05) for row in layers.rows}
        return network_of(before), {name: network_of(after) for name in lowered}

    monkeypatch.setattr(bench, "measure", measured)
    monkeypatch.setattr(files, "lower", lowered_to)
    monkeypatch.setattr(bench, "dense_timer", lambda model, metadata: None)
    return asked, dense_layers


def network_of(layers: dict[str, Timing]) -> NetworkTimes:
    """Return a network in which half a millisecond goes to the runtime."""
    return NetworkTimes(layers, Timing(0.5, 0.01), Timing(sum(one.ms for one in layers.values()) + 0.5, 0.1))


def compiled_blocks(**options: Any) -> Compiled:
    """Return the network with half of its blocks."""
    backends = ("onnx", "tvm")
    return smartc.compile(network(), X, target="cpu", granularity="block", backends=backends, **options)


def test_blocks_that_do_not_pay_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, _ = inject(monkeypatch, {"0": 0.5, "2": 0.95})
    original = network()
    compiled = compiled_blocks(sparsity=0.5)
    assert asked == [["model.so", "model.onnx"]] * 2
    first, second = compiled.report.layer("0"), compiled.report.layer("2")
    assert (first.decision, first.dense.ms, first.compiled.ms, first.compiled.spread_ms) == ("block", 1.0, 0.5, 0.05)
    assert second.decision == "dense"
    kept = compiled.report.layer("2").reason.split(" ")[1]
    assert second.reason == (
        f"with {kept} of 324 blocks it takes 0.950 ms ± 50.0 µs, and dense in ONNX Runtime 1.00 ms ± 50.0 µs"
    )
    assert second.compiled.tiles == (324, 324)
    tensors = dict(compiled.module.named_parameters())
    assert torch.equal(tensors["2.weight"], original[2].weight)
    assert not torch.equal(tensors["0.weight"], original[0].weight)
    stages = [proof.stage for proof in compiled.report.verify]
    assert stages[0] == "masks in the graph == masked (float64)"
    assert {"masked == onnx", "masked == tvm"} <= set(stages)


def test_trained_weights_keep_their_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    _, dense = inject(monkeypatch, {"0": 0.5, "2": 2.0})
    compiled = compiled_blocks(sparsity=0.5, data=torch.randn(16, 32, 7, 7), settings=smartc.Settings(steps=4))
    assert dense == [{}, {"2": True}]
    assert compiled.report.layer("2").decision == "dense"
    assert compiled.report.layer("0").decision == "block"
    assert (dict(compiled.module.named_parameters())["2.weight"] == 0).float().mean() > 0.2


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


def test_channels_that_do_not_pay_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, _ = inject(monkeypatch, {"0": 3.0, "2": 0.5})
    compiled = smartc.compile(network(), X, target="cpu", sparsity=0.4, backends=("onnx",))
    assert asked == [["model.onnx"]] * 2
    first, second = compiled.report.layer("0"), compiled.report.layer("2")
    assert (first.decision, second.decision) == ("dense", "channel")
    kept = first.reason.split(" ")[1]
    took, dense = "3.50 ms ± 0.100 ms", "2.00 ms ± 0.100 ms"
    assert first.reason == f"with {kept} of 48 channels its layers take {took}, and dense in ONNX Runtime {dense}"
    assert int(kept) < 48
    tensors = dict(compiled.module.named_parameters())
    assert torch.equal(tensors["0.weight"], network()[0].weight)
    assert tensors["2.weight"].shape[:2] == (second.compiled.shape[1], 48)
    assert second.compiled.shape[1] < 48


def test_channels_stay_away_where_one_file_is_no_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, _ = inject(monkeypatch, {"0": 1.15, "2": 1.0})
    compiled = smartc.compile(network(), X, target="cpu", sparsity=0.4, backends=("onnx",))
    assert len(asked) == 1, "within the spread"
    assert compiled.report.layer("0").decision == "channel"
    asked, _ = inject(monkeypatch, {"0": 3.0, "2": 0.5})
    measured = bench.measure

    def one_is_fast(*arguments: Any) -> tuple[NetworkTimes, dict[str, NetworkTimes]]:
        before, after = measured(*arguments)
        return before, {**after, "model.onnx": before}

    monkeypatch.setattr(bench, "measure", one_is_fast)
    compiled = smartc.compile(network(), X, target="cpu", sparsity=0.4, backends=("onnx", "tvm"))
    assert len(asked) == 1
    assert compiled.report.layer("0").decision == "channel"


def test_trained_channels_that_are_put_back_are_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"target": "cpu", "sparsity": 0.4, "granularity": "channel", "backends": ("onnx",)}
    options |= {"data": torch.randn(16, 32, 7, 7), "settings": smartc.Settings(steps=4)}
    inject(monkeypatch, {})
    removed = smartc.compile(network(), X, **options)
    inject(monkeypatch, {"0": 3.0})
    compiled = smartc.compile(network(), X, **options)
    before, after = (dict(found.module.named_parameters()) for found in (removed, compiled))
    zero = (after["2.weight"] == 0).all(3).all(2).all(0)
    assert after["0.weight"].shape[0] == 48
    assert int(zero.sum()) == 48 - before["0.weight"].shape[0] > 0
    torch.testing.assert_close(removed.module(X), compiled.module(X), rtol=1e-4, atol=1e-6)


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
    for said in ("", "smartc: this machine has no cost table yet: measuring it takes one to two minutes, once\n"):
        found = command_calibrate.with_costs(load_target("cpu"), ("onnx",))
        assert found.provenance == "measured"
        assert capsys.readouterr().err == said
        cost_table.unlink()
