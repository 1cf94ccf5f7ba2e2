"""Weights that one ONNX file cannot hold are written beside it, and found there by all that reads a build."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import smartc
from smartc.artifact.manifest import read_manifest
from smartc.cli.main import main
from smartc.lowering import to_onnx


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the size from which on weights are apart, made small."""
    monkeypatch.setattr(to_onnx, "LARGEST_BYTES", 4000)
    return 4000


def _build(folder: Path) -> smartc.Compiled:
    """Compile a network with weights of some kilobytes and save it."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
    compiled = smartc.compile(network, torch.zeros(2, 32), target="npu-8x8")
    compiled.save(folder)
    return compiled


@pytest.mark.usefixtures("limit")
def test_weights_lie_beside_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compiled = _build(tmp_path / "build")
    model, data = tmp_path / "build" / "model.onnx", tmp_path / "build" / "model.onnx.data"
    assert data.name in read_manifest(tmp_path / "build")["files"]
    assert model.stat().st_size < 4000 < data.stat().st_size
    inputs = torch.randn(3, 32)
    (output,) = onnxruntime.InferenceSession(str(model)).run(None, {"input": inputs.numpy()})
    np.testing.assert_allclose(output, compiled(inputs).detach().numpy(), rtol=1e-4, atol=1e-6)
    assert [proof.stage for proof in compiled.report.verify][-1] == "masked == ONNX Runtime"
    assert main(["verify", str(tmp_path / "build")]) == 0
    np.save(tmp_path / "x.npy", inputs.numpy())
    assert main(["run", str(tmp_path / "build"), "--input", str(tmp_path / "x.npy"), "--file", "model.onnx"]) == 0
    capsys.readouterr()
    loaded = smartc.load(tmp_path / "build")
    assert loaded.report.artifacts[data.name] == data.stat().st_size
    loaded.save(tmp_path / "again")
    for name in (model.name, data.name):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "build" / name).read_bytes()


@pytest.mark.usefixtures("limit")
def test_changed_weights_are_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _build(tmp_path / "build")
    data = tmp_path / "build" / "model.onnx.data"
    data.write_bytes(bytes(data.stat().st_size))
    np.save(tmp_path / "x.npy", np.zeros((3, 32), np.float32))
    assert main(["run", str(tmp_path / "build"), "--input", str(tmp_path / "x.npy")]) == 2
    fact = "it was changed after it was written. Compile the model again."
    assert capsys.readouterr().err == f"smartc: {data}: {fact}\n"


def test_what_fits_is_one_file(tmp_path: Path) -> None:
    _build(tmp_path / "build")
    assert not (tmp_path / "build" / "model.onnx.data").exists()
