"""What is wrong with a command is one line that says what, where and what to do, and nothing is written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smartc.artifact.write import write_artifact
from smartc.cli import targets as command_targets
from smartc.cli.main import main
from smartc.core.errors import InternalError
from tests.support.small_networks import SHAPE

SHARE = "not a share of channels. Give a number from 0 to less than 1."
LATENCY = "not a latency. Give a share such as 0.6x or a time such as 1.5ms."
TARGETS = "npu-8x8, npu-16x16, npu-32x32, npu-8x8-dense, npu-16x16-dense, npu-32x32-dense, cpu"


def _refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 2) -> str:
    """Run a command that must fail and return its one line of errors."""
    assert main([str(argument) for argument in arguments]) == code
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("smartc: ")
    assert errors.count("\n") == 1
    return errors.removeprefix("smartc: ").rstrip("\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--target", "npu-9x9"],
            "--target npu-9x9: unknown target. Did you mean npu-8x8? "
            f"The targets are {TARGETS}; a file of your own ends in .toml.",
        ),
        (
            ["--sparsity", "1"],
            f"--sparsity 1: {SHARE}",
        ),
        (
            ["--sparsity", "-0.1"],
            f"--sparsity -0.1: {SHARE}",
        ),
        (
            ["--sparsity", "nan"],
            f"--sparsity nan: {SHARE}",
        ),
        (
            ["--sparsity", "half"],
            f"--sparsity half: {SHARE}",
        ),
        (
            ["--latency", "fast"],
            f"--latency fast: {LATENCY}",
        ),
        (
            ["--latency", "0x"],
            f"--latency 0x: {LATENCY}",
        ),
        (
            ["--latency", "0.6x", "--sparsity", "0.5"],
            "compile: argument --sparsity: not allowed with argument --latency. See smartc compile --help.",
        ),
        (
            ["--granularity", "row"],
            "--granularity row: not known. "
            "Choose one of auto, channel, block, RxC such as 16x8, RxC/shared, or n:m such as 2:4.",
        ),
        (["--backend", "onnx,c"], "--backend c: not known. Choose one of pt2, onnx, tvm."),
        (["--eval", "nowhere.npz"], "nowhere.npz: there is no such file. Check the path."),
        (
            ["--input", "1x3x9x9"],
            "--input 1x3x9x9: wrong input shape; the model takes input: float32 Nx3x8x8. "
            "Leave --input out: an exported program brings its shapes.",
        ),
        (["--depth", "3"], "command line: unrecognized arguments: --depth 3. See smartc --help."),
    ],
)
def test_options_of_compile(
    model_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    folder = tmp_path / "build"
    command = ("compile", model_files / "program.pt", "--target=npu-8x8", "-o", folder)
    assert _refused(capsys, *command, *options) == message
    assert not list(tmp_path.iterdir())


def test_a_budget_that_cannot_be_met(model_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ("compile", model_files / "program.pt", "--target=npu-8x8", "-o", tmp_path / "build")
    message = _refused(capsys, *command, "--latency", "0.01x")
    assert message.startswith("--latency 0.01x: removing channels makes the model at best 0.")
    assert message.endswith("on npu-8x8. Ask for no less than that.")
    assert not list(tmp_path.iterdir())


def test_a_malformed_target(model_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.toml").write_text('schema = 1\n[target]\nname = "mine"\n')
    target = f"--target={tmp_path / 'mine.toml'}"
    command = ("compile", model_files / "program.pt", target, "-o", tmp_path / "build")
    assert _refused(capsys, *command) == f"{tmp_path}/mine.toml, [target] kind: missing. Give one of npu, cpu."
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "module.pt",
            "it holds a pickled torch.nn.modules.container.Sequential, which can run code when it is loaded. "
            "Pass --allow-pickle if you trust its source, or ask for an exported program or a state_dict.",
        ),
        ("nowhere.pt", "there is no such file. Check the path."),
    ],
)
@pytest.mark.parametrize("command", ["compile", "explain"])
def test_model_files(
    model_files: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    name: str,
    message: str,
) -> None:
    output = ("-o", str(tmp_path / "build")) if command == "compile" else ()
    found = _refused(capsys, command, model_files / name, "--target=npu-8x8", *output)
    assert found == f"{model_files / name}: {message}"
    assert not list(tmp_path.iterdir())


def test_an_output_that_is_not_ours(model_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("once")
    command = ("compile", model_files / "program.pt", "--target=npu-8x8", "-o")
    assert _refused(capsys, *command, tmp_path) == (
        f"{tmp_path}: it exists, is not empty and was not written by smartc. Choose another folder."
    )
    assert _refused(capsys, *command, tmp_path / "thesis.tex" / "build") == (
        f"{tmp_path}/thesis.tex/build: it cannot be written (Not a directory). "
        "Choose another folder, or allow writing there."
    )
    assert (tmp_path / "thesis.tex").read_text() == "once"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "command line: the following arguments are required: COMMAND. See smartc --help."),
        (
            ["compile"],
            "compile: the following arguments are required: MODEL, --target, -o/--output. See smartc compile --help.",
        ),
        (["report", "."], ".: it has no manifest.json. Name a folder that smartc compile wrote."),
        (["verify", "nowhere"], "nowhere: there is no such folder. Name a folder that smartc compile wrote."),
        (
            ["run", "nowhere", "--input", "x.npz"],
            "nowhere: there is no such folder. Name a folder that smartc compile wrote.",
        ),
        (["explain", "."], ".: it has no manifest.json. Name a folder that smartc compile wrote."),
        (
            ["explain", ".", "--target", "npu-8x8"],
            "--target npu-8x8: a build has a target already. Leave --target out.",
        ),
    ],
)
def test_arguments(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _refused(capsys, *arguments) == message


@pytest.fixture(scope="module")
def build(model_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a build of the small network, as far as running it is concerned."""
    folder = tmp_path_factory.mktemp("builds") / "build"
    program = model_files / "program.pt"

    def copy(path: Path) -> None:
        shutil.copyfile(program, path)

    write_artifact(folder, {"model.pt2": copy}, {})
    return folder


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": np.zeros(2)}, "it holds nothing, and the model takes {}. {names}"),
        (
            {"input": np.zeros((2, *SHAPE), np.float32), "mask": np.zeros(2)},
            "it holds input, mask, and the model takes {}. {names}",
        ),
        (
            {"input": np.zeros((2, 8, 8, 3), np.float32)},
            "input is float32 2x8x8x3, and the model takes {}. {shape}",
        ),
        ({"input": np.zeros((2, *SHAPE))}, "input is float64 2x3x8x8, and the model takes {}. {shape}"),
        ({"input": np.zeros((0, *SHAPE), np.float32)}, "it holds no inputs. Give a batch of at least one."),
        ({"input": np.array(["a"])}, "input is <U1 1, and the model takes {}. {shape}"),
        ({"input": np.array([{}])}, "it is damaged, or no file of arrays. {file}"),
    ],
)
def test_inputs_of_run(
    build: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arrays: Any, message: str
) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, **arrays)
    fixes = {
        "names": "Name the arrays as the inputs, and leave others out.",
        "shape": "Give an array of that type and shape.",
        "file": "Give an .npz file with an array per input, or an .npy file.",
    }
    expected = message.format("input: float32 Nx3x8x8", **fixes)
    assert _refused(capsys, "run", build, "--input", path) == f"{path}: {expected}"


def test_a_build_that_was_changed(build: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (build / "model.pt2").open("ab") as file:
        file.write(b"!")
    np.save(tmp_path / "x.npy", np.zeros((2, *SHAPE), np.float32))
    changed = f"{build}/model.pt2: it was changed after it was written. Compile the model again."
    assert _refused(capsys, "run", build, "--input", tmp_path / "x.npy") == changed
    assert _refused(capsys, "verify", build) == changed


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (
            InternalError("7 is not 8", where="sum"),
            70,
            "sum: 7 is not 8. This is a fault of smartc: please report it.",
        ),
        (
            ZeroDivisionError("division by zero"),
            70,
            "ZeroDivisionError: division by zero. This is a fault of smartc: please report it, "
            "with what --debug prints.",
        ),
    ],
)
def test_faults(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    message: str,
) -> None:
    def fail(_: Any) -> None:
        raise error

    monkeypatch.setattr(command_targets, "run", fail)
    assert _refused(capsys, "targets", code=code) == message
    assert main(["targets", "--debug"]) == code
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_reader_that_has_gone() -> None:
    command = [sys.executable, "-m", "smartc", "targets", "npu-8x8"]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
