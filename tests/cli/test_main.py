"""The commands do the job end to end, from a model file to a build and what can be asked of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.utils.parametrizations import spectral_norm

import smartc
from smartc.artifact.write import check_files, read_manifest
from smartc.cli.main import main
from smartc.frontend.model_file import load_model
from smartc.results.report import Report
from smartc.targets.target import target_names
from tests.support.small_networks import SHAPE, small

TARGET = "--target=npu-8x8"


@pytest.fixture(scope="module")
def build(model_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the small network."""
    folder = tmp_path_factory.mktemp("builds") / "build"
    assert main(["compile", str(model_files / "program.pt"), TARGET, "-o", str(folder)]) == 0
    return folder


def _printed(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run a command that must succeed and return what it prints."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    return output


def _elsewhere(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a process and a folder of its own."""
    command = [sys.executable, "-m", "smartc", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def _save_labelled(path: Path, count: int = 12) -> Path:
    """Save random images with random labels."""
    random = np.random.default_rng(0)
    inputs = random.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
    np.savez(path, inputs=inputs, labels=random.integers(0, 10, count))
    return path


def test_a_build_is_whole(build: Path) -> None:
    check_files(build)
    files = ["model.onnx", "model.pt2", "plan.json", "report.html", "report.json"]
    assert sorted(read_manifest(build)["files"]) == files
    report = Report.load(build / "report.json")
    report.check_sums()
    assert (report.model, report.target, report.budget.asked) == ("program.pt", "npu-8x8", "0.5")
    assert report.latency.compiled < report.latency.dense
    assert all(verification.passed for verification in report.verify)


def test_compile_prints_the_report_and_the_folder(
    model_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, folder = _save_labelled(tmp_path / "data.npz"), tmp_path / "build"
    latency = ("--latency", "0.7x", "--eval", data, "-o", folder)
    output = _printed(capsys, "compile", model_files / "program.pt", TARGET, *latency)
    for part in ("program.pt on npu-8x8", "latency 0.7x", "on 12 inputs of data.npz", "verified"):
        assert part in output
    assert output.splitlines()[-1] == f"The build is in {folder}"
    report = Report.load(folder / "report.json")
    assert report.latency.compiled <= 0.7 * report.latency.dense
    assert report.evaluation is not None
    assert report.evaluation.inputs == 12


@pytest.mark.slow
def test_code_in_the_current_folder_is_found(tmp_path: Path) -> None:
    """As ``package.module:name``, in a process whose other folders do not have it."""
    (tmp_path / "shop.py").write_text(
        "from torch import nn\n"
        "def net(): return nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, 4, 1))\n"
        "def score(model): return 1 / sum(p.numel() for p in model.parameters())\n"
    )
    torch.manual_seed(0)
    first, last = torch.nn.Conv2d(3, 16, 1), torch.nn.Conv2d(16, 4, 1)
    torch.save(torch.nn.Sequential(first, torch.nn.ReLU(), last).state_dict(), tmp_path / "net.pt")
    options = ("--model", "shop:net", "--input", "1x3x8x8", "--eval", "shop:score", "--backend", "pt2")
    done = _elsewhere(tmp_path, "compile", "net.pt", TARGET, *options, "-o", "build")
    assert (done.returncode, done.stderr) == (0, "")
    report = Report.load(tmp_path / "build" / "report.json")
    assert report.evaluation is not None
    assert report.evaluation.compiled > report.evaluation.dense
    assert not (tmp_path / "build" / "model.onnx").exists()


def test_report_in_every_form(build: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report.load(build / "report.json")
    assert _printed(capsys, "report", build, "--csv") == report.to_csv()
    assert json.loads(_printed(capsys, "report", build, "--json")) == report.to_dict()
    for option, text in (("--csv", report.to_csv()), ("--json", (build / "report.json").read_text())):
        assert _printed(capsys, "report", build, option, tmp_path / "file") == ""
        assert (tmp_path / "file").read_bytes().decode() == text
    assert _printed(capsys, "report", build, "--html", tmp_path / "page.html") == ""
    assert (tmp_path / "page.html").read_text() == (build / "report.html").read_text()
    short, full = _printed(capsys, "report", build), _printed(capsys, "report", build, "--all")
    assert "program.pt on npu-8x8" in short
    assert len(full) >= len(short)


def test_explain_a_model(model_files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = _printed(capsys, "explain", model_files / "program.pt", TARGET)
    lines = [line.split() for line in output.splitlines()]
    assert output.splitlines()[0] == ("program.pt (input: float32 Nx3x8x8): 40 removable channels in 2 groups")
    assert lines[1:4] == [
        ["group", "channels", "tiles", "of", "8", "owned", "by", "read", "by"],
        ["0", "16", "2", "0", "3"],
        ["3", "24", "3", "3", "7"],
    ]
    assert "stays, because it is a model output: 7.weight axis 0" in output.splitlines()


def test_explain_one_layer_of_a_model(model_files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = _printed(capsys, "explain", model_files / "program.pt", "7")
    assert output.splitlines() == [
        "7.weight axis 1 reads channels: 24 of 24 removable, in the group of 3",
        "7.weight axis 0 stays, because it is a model output",
    ]


def test_explain_a_build(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = _printed(capsys, "explain", build)
    for layer in Report.load(build / "report.json").layers:
        assert any(line.split()[:3] == [layer.name, layer.op, layer.decision] for line in output.splitlines())
    lines = _printed(capsys, "explain", build, "3").splitlines()
    assert lines[0].startswith("3 (conv2d): channel, keeps ")
    axes = json.loads((build / "plan.json").read_text())["tensors"]["3.weight"]["axes"]
    shown = [line for line in lines if line.startswith("  3.weight, axis ")]
    assert [f"{len(axis['kept'])} of " in line for axis, line in zip(axes, shown, strict=True)] == [True] * 2


def test_explain_says_what_was_computed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    middle = spectral_norm(torch.nn.Linear(16, 16))
    network = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), middle, torch.nn.Linear(16, 4)).eval()
    torch.export.save(torch.export.export(network, (torch.randn(2, 4),)), tmp_path / "net.pt2")
    lines = _printed(capsys, "explain", tmp_path / "net.pt2").splitlines()
    assert lines[-1].endswith("2.weight holds what parameters or literals alone compute: it is computed once")
    _printed(capsys, "compile", tmp_path / "net.pt2", TARGET, "--backend", "pt2", "-o", tmp_path / "build")
    sources = "2.parametrizations.weight.original and 2.parametrizations.weight.0._u and 2.parametrizations.weight.0._v"
    assert f"  2.weight holds what {sources} compute" in _printed(capsys, "explain", tmp_path / "build", "2")


def test_verify(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = _printed(capsys, "verify", build).splitlines()
    assert lines[0] == "files ok: 5 as they were written"
    assert len(lines) > 1
    assert all(" ok: " in line for line in lines[1:])


def test_run(build: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(0).normal(size=(5, *SHAPE)).astype(np.float32)
    np.savez(tmp_path / "x.npz", input=x)
    np.save(tmp_path / "x.npy", x)
    expected = load_model(build / "model.pt2").run((torch.from_numpy(x),))
    output = _printed(capsys, "run", build, "--input", tmp_path / "x.npz", "-o", tmp_path / "y.npz")
    with np.load(tmp_path / "y.npz") as arrays:
        ((name, found),) = arrays.items()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    best = ", ".join(str(int(row)) for row in expected.argmax(1))
    lines = output.splitlines()
    assert lines[0] == f"ran {build}/model.onnx by ONNX Runtime"
    assert lines[1].startswith(f"{name}: float32 5x10, ")
    assert lines[2:] == [f"  largest in each row: {best}", f"written: {tmp_path}/y.npz"]
    assert _printed(capsys, "run", build, "--input", tmp_path / "x.npy").splitlines() == lines[:3]
    np.savez(tmp_path / "labelled.npz", inputs=x, labels=np.zeros(5))
    assert _printed(capsys, "run", build, "--input", tmp_path / "labelled.npz").splitlines() == lines[:3]


@pytest.mark.parametrize("names", [("inputs", "labels"), ("input", "y"), ("x", "target"), ("arr_0", "arr_1")])
def test_one_file_serves_data_and_eval(
    model_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], names: tuple[str, str]
) -> None:
    random = np.random.default_rng(0)
    arrays = (random.normal(size=(12, *SHAPE)).astype(np.float32), random.integers(0, 10, 12))
    data, folder = tmp_path / "data.npz", tmp_path / "build"
    np.savez(data, **dict(zip(names, arrays, strict=True)))
    options = ("--data", data, "--eval", data, "--steps", "0", "--granularity", "channel", "--backend", "pt2")
    _printed(capsys, "compile", model_files / "program.pt", TARGET, *options, "-o", folder)
    report = Report.load(folder / "report.json")
    assert report.evaluation is not None
    assert report.evaluation.inputs == 12
    assert report.learning is not None
    assert report.learning.samples == 12


def test_run_without_onnx(model_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "build"
    program = model_files / "program.pt"
    _printed(capsys, "compile", program, TARGET, "--sparsity", "0", "--backend", "pt2", "-o", folder)
    x = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, *SHAPE)
    np.save(tmp_path / "x.npy", x.numpy())
    output = _printed(capsys, "run", folder, "--input", tmp_path / "x.npy", "-o", tmp_path / "y.npz")
    assert output.splitlines()[0] == f"ran {folder}/model.pt2 by PyTorch"
    with np.load(tmp_path / "y.npz") as arrays, torch.no_grad():
        np.testing.assert_allclose(arrays["output_0"], small()(x), rtol=1e-5, atol=1e-6)


def test_targets(capsys: pytest.CaptureFixture[str]) -> None:
    rows = _printed(capsys, "targets").splitlines()
    assert tuple(row.split()[0] for row in rows[1:]) == target_names()
    assert " ".join(rows[1].split()) == "npu-8x8 generic 8x8 500 MHz 32 GMAC/s skipped 8 bit"
    detail = [" ".join(line.split()) for line in _printed(capsys, "targets", "npu-8x8").splitlines()]
    assert "array.rows 8 the name: input channels of one weight tile" in detail


def test_light_commands_import_no_torch(tmp_path: Path) -> None:
    script = "import sys; from smartc.cli.main import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    for arguments in (["--help"], ["--version"], ["targets"], ["compile", "--help"]):
        command = [sys.executable, "-c", script, *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "False"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert _printed(capsys, "--version") == f"smartc {smartc.__version__}\n"


def test_a_manifest_that_does_not_tell_all(build: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(build, copy)
    (copy / "model.so").write_bytes(b"mine")
    assert main(["verify", str(copy)]) == 2
    foreign = f"smartc: {copy}: it holds model.so, which its manifest.json does not list. "
    assert capsys.readouterr().err == f"{foreign}Move that file away, or compile the model again.\n"
    assert "model.so" not in (smartc.load(copy).lowered or {})
    (copy / "model.so").unlink()
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "files": {}}))
    assert main(["verify", str(copy)]) == 2
    missing = f"smartc: {copy}/model.pt2: it is not part of this artifact. Compile the model again.\n"
    assert capsys.readouterr().err == missing
