"""What does not pay by measured times is put back: blocks, channels, and those of trained weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import smartc
from smartc.measuring import bench
from smartc.measuring.measurement import NetworkTimes
from tests.support.injected_times import X, compiled_blocks, inject, network

pytestmark = pytest.mark.usefixtures("cost_table")


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
