"""Every file of a build is run against the others, also where somebody renewed its hash."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import smartc
from smartc.artifact import verify_build as verifying
from smartc.artifact.manifest import describe
from smartc.artifact.runner import FILES, open_runner
from smartc.cli.main import main
from smartc.core.errors import UserError
from smartc.measuring.processor import has_tvm
from tests.support.small_networks import SHAPE

needs_tvm = pytest.mark.skipif(not has_tvm(), reason="TVM is not installed")
BACKENDS = ("onnx", "tvm") if has_tvm() else ("onnx",)


def _build(folder: Path, seed: int) -> Path:
    """Compile a network of random weights by blocks and save all of its files."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 6)
    )
    options: dict[str, Any] = {"granularity": "8x8", "sparsity": 0.7, "backends": BACKENDS}
    smartc.compile(net, torch.zeros(2, *SHAPE), target="npu-8x8", **options).save(folder)
    return folder


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return two builds of networks that differ in their weights alone."""
    folder = tmp_path_factory.mktemp("builds")
    return _build(folder / "first", 0), _build(folder / "second", 1)


def _swapped(builds: tuple[Path, Path], folder: Path, name: str) -> Path:
    """Return a copy of the first build with one file of the second, the manifest renewed."""
    shutil.copytree(builds[0], folder)
    shutil.copy(builds[1] / name, folder / name)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").unlink()
    manifest["files"] = describe(folder)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.slow
def test_every_file_is_run(builds: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(builds[0])]) == 0
    stages = [line.split(" ok: ")[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert stages[:3] == [".pt2 == .pt2 (float64)", "weights.safetensors == .pt2", "ONNX Runtime == .pt2 (float64)"]
    assert stages[3:] == ["TVM == .pt2 (float64)"] * has_tvm()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "blamed"),
    [
        ("model.onnx", "model.onnx"),
        ("weights.safetensors", "weights.safetensors"),
        ("model.pt2", "weights.safetensors"),
        pytest.param("model.so", "model.so", marks=needs_tvm),
    ],
)
def test_a_file_of_another_build_is_found(
    builds: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, blamed: str
) -> None:
    folder = _swapped(builds, tmp_path / "swapped", name)
    assert main(["verify", str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"smartc: {folder}/{blamed}: it computes something else than model.pt2 in float64: ")
    assert line.endswith(" Compile the model again.")


@pytest.mark.slow
def test_without_tvm_its_file_is_not_run(
    builds: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "build"
    shutil.copytree(builds[0], folder)
    (folder / "model.so").write_bytes(b"code")
    monkeypatch.setattr(verifying, "find_spec", lambda _: None)
    found = verifying.verify_build(folder)
    assert found.remarks == (verifying.NO_TVM,)
    assert "model.so" not in found.stages


@pytest.mark.slow
def test_each_file_runs_on_inputs_of_the_user(
    builds: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32)
    np.savez(tmp_path / "x.npz", input=inputs)
    expected = smartc.load(builds[0])(torch.from_numpy(inputs)).detach().numpy()
    files = [name for name in FILES if (builds[0] / name).exists()]
    assert len(files) == 1 + len(BACKENDS)
    for name in files:
        output = tmp_path / f"{name}.npz"
        arguments = ("--input", tmp_path / "x.npz", "--file", name, "-o", output)
        assert main(["run", str(builds[0]), *map(str, arguments)]) == 0
        with np.load(output) as arrays:
            np.testing.assert_allclose(arrays["output_0"], expected, rtol=1e-3, atol=1e-5)
        assert capsys.readouterr().out.startswith(f"ran {builds[0]}/{name} by ")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    smartc.compile(nn.Linear(8, 8), torch.zeros(2, 8), target="npu-8x8").save(tmp_path / "build")
    with pytest.raises(UserError) as caught:
        open_runner(tmp_path / "build", "model.so")
    assert str(caught.value) == f"{tmp_path}/build: it has no model.so. It has model.onnx, model.pt2."


@needs_tvm
@pytest.mark.slow
def test_a_library_that_is_none(builds: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "build"
    shutil.copytree(builds[0], folder)
    (folder / "model.so").write_bytes(b"code")
    with pytest.raises(UserError, match=r"model\.so: its runtime cannot load it: .+ Compile the model again\.$"):
        verifying.verify_build(folder)
