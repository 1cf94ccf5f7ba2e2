"""Learning from the command line: its options, its data, and a process that is killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from smartc.cli.main import main
from smartc.learning.training.checkpoint import Checkpoint
from smartc.learning.training.mask_search import MaskSearch
from smartc.results.report import Report
from tests.support.learning_networks import SHAPE, Sentences, images, sentences
from tests.support.small_networks import save_program

pytestmark = pytest.mark.slow

TARGET = "--target=npu-8x8"
SHOP = """
import itertools, os, signal
from types import SimpleNamespace
import torch
from smartc.learning.training import checkpoint

# A state after every step rather than one in 20 s.
leaps = itertools.count(1e9, 100.0)
checkpoint.time = SimpleNamespace(monotonic=lambda: next(leaps))
calls = itertools.count()

def loss(model, inputs, labels):
    if os.environ.get("KILL_AT") == str(next(calls)):
        os.kill(os.getpid(), signal.SIGKILL)
    return torch.nn.functional.cross_entropy(model(*inputs), labels)

def nothing(model, inputs, labels): return torch.zeros(())
def broken(model, inputs, labels): raise ValueError("no such label")
def nan(model, inputs, labels): return model(*inputs).mean() * float("nan")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with data, a model and losses."""
    place = tmp_path_factory.mktemp("shop")
    (place / "loss_shop.py").write_text(SHOP)
    np.savez(place / "data.npz", inputs=images(24).numpy(), labels=np.arange(24) % 10)
    np.savez(place / "plain.npz", inputs=images(24).numpy())
    np.savez(place / "nan.npz", inputs=np.full((24, *SHAPE), np.nan, np.float32))
    np.savez(place / "flat.npz", inputs=np.zeros((24, 5), np.float32))
    (place / "torn.npz").write_bytes(b"PK\x03\x04 torn")
    save_program(place / "program.pt")
    return place


def _smartc(folder: Path, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    command = [sys.executable, "-m", "smartc", *map(str, arguments)]
    setting = {**os.environ, **environment}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=setting)


def _refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run a command that must fail and return its one line of errors."""
    assert main([str(argument) for argument in arguments]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.count("\n") == 1
    return errors.removeprefix("smartc: ").rstrip("\n")


def _plan_hash(build: Path) -> str:
    """Return the hash of a build's plan."""
    return hashlib.sha256((build / "plan.json").read_bytes()).hexdigest()


def test_learning_from_a_file(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build = tmp_path / "build"
    options = ("--data", folder / "data.npz", "--steps", "4", "--batch", "6", "--seed", "3", "--granularity", "4x4")
    command = ("compile", folder / "program.pt", TARGET, *options, "--backend", "pt2", "-o", build)
    assert main([str(part) for part in command]) == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    assert output.splitlines()[-1] == f"The build is in {build}"
    assert [path.name for path in tmp_path.iterdir()] == ["build"]
    learning = Report.load(build / "report.json").learning
    assert learning is not None
    facts = (learning.learner, learning.samples, learning.steps, learning.batch, learning.seed, learning.precision)
    assert facts == ("smart", 24, 4, 6, 3, "float32")
    assert "cross-entropy" in learning.objective or "layers" in learning.objective


def test_a_killed_process_goes_on_to_the_same_build(folder: Path, tmp_path: Path) -> None:
    def command(build: Path) -> tuple[str | Path, ...]:
        learning = ("--data", "data.npz", "--train", "loss_shop:loss", "--steps", "10", "--granularity", "4x4")
        return ("compile", "program.pt", TARGET, *learning, "--backend", "pt2", "-o", build)

    whole, build = tmp_path / "whole", tmp_path / "build"
    done = _smartc(folder, *command(whole))
    assert (done.returncode, done.stderr) == (0, "")
    killed = _smartc(folder, *command(build), KILL_AT="6")
    assert killed.returncode == -signal.SIGKILL
    state = tmp_path / "build.checkpoint"
    assert state.exists()
    assert not build.exists()
    before = state.read_bytes()
    refused = _smartc(folder, *command(build))
    message = f"{state}: holds an unfinished training. Add --resume to go on with it, or delete the file."
    assert (refused.returncode, refused.stderr) == (2, f"smartc: {message}\n")
    assert state.read_bytes() == before
    resumed = _smartc(folder, *command(build), "--resume")
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["build", "whole"]
    assert _plan_hash(build) == _plan_hash(whole)
    programs = [torch.export.load(place / "model.pt2").state_dict for place in (build, whole)]
    assert programs[0].keys() == programs[1].keys()
    assert all(torch.equal(tensor, programs[1][name]) for name, tensor in programs[0].items())
    reports = [json.loads((place / "report.json").read_text())["learning"] for place in (build, whole)]
    assert reports[0] == reports[1]


OUT_OF_REACH = "Give 0 or more."


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "many"], f"--steps many: not a whole number. {OUT_OF_REACH}"),
        (["--steps", "1.5"], f"--steps 1.5: not a whole number. {OUT_OF_REACH}"),
        (["--steps", "-1"], f"--steps -1: not a whole number. {OUT_OF_REACH}"),
        (["--batch", "0"], "--batch 0: not a batch size. Give 1 or more."),
        (["--batch", "x"], f"--batch x: not a whole number. {OUT_OF_REACH}"),
        (["--seed", "x"], f"--seed x: not a whole number. {OUT_OF_REACH}"),
        (["--precision", "float8"], "--precision float8: not known. Choose one of float32, bfloat16."),
        (
            ["--learner", "luck"],
            "--learner luck: not known. Choose one of smart, pdp, sp-lamp, magnitude, taylor, ac-dc.",
        ),
        (
            ["--train", "loss"],
            "--train loss: it does not have the form package.module:name. For example shop.nets:resnet.",
        ),
        (
            ["--train", "nowhere:loss"],
            "--train nowhere:loss: there is no module nowhere. "
            "Run smartc in the folder that holds it, set PYTHONPATH, or install it.",
        ),
        (["--train", "loss_shop:none"], "--train loss_shop:none: module loss_shop has no none. Check the name."),
        (
            ["--train", "loss_shop:nothing"],
            "--train loss_shop:nothing: it returns no loss of the model. Return a tensor of one number.",
        ),
        (
            ["--train", "loss_shop:broken"],
            "--train loss_shop:broken: it fails: ValueError: no such label. "
            "It is called with the model, a tuple of its inputs, and the labels or None.",
        ),
        (
            ["--train", "loss_shop:nan"],
            "loss_shop:nan: the loss is nan at step 0. Check the data, and the loss if it is your own.",
        ),
    ],
)
def test_wrong_options(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    command = ("compile", folder / "program.pt", TARGET, "--data", "data.npz", "--steps", "2", "--granularity", "4x4")
    assert _refused(capsys, *command, "-o", tmp_path / "build", *options) == message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options",
    [
        ["--preprocess", "imagenet"],
        ["--train", "loss_shop:loss"],
        ["--steps", "5"],
        ["--batch", "5"],
        ["--seed", "5"],
        ["--resume"],
        ["--precision", "bfloat16"],
    ],
)
def test_learning_options_without_data(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    command = ("compile", folder / "program.pt", TARGET, "-o", tmp_path / "build", *options)
    assert _refused(capsys, *command) == f"{options[0]}: there is nothing to learn from. Add --data."
    assert not list(tmp_path.iterdir())


def test_a_learner_that_needs_data(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for learner in ("smart", "pdp", "taylor", "ac-dc"):
        command = ("compile", folder / "program.pt", TARGET, "-o", tmp_path / "build", "--learner", learner)
        message = f"--learner {learner}: learns from data, and none is given. Add --data."
        assert _refused(capsys, *command) == message


@pytest.mark.parametrize("name", ["nan.npz", "flat.npz", "torn.npz", "nowhere.npz"])
def test_data_that_do_not_fit(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    command = ("compile", folder / "program.pt", TARGET, "-o", tmp_path / "build", "--data", folder / name)
    assert _refused(capsys, *command).startswith(f"{folder / name}: ")
    assert not list(tmp_path.iterdir())


def test_preprocessing_that_is_not_known(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ("compile", folder / "program.pt", TARGET, "-o", tmp_path / "build", "--data", folder / "plain.npz")
    message = _refused(capsys, *command, "--preprocess", "sepia")
    assert message.startswith("--preprocess sepia: ")


@pytest.mark.parametrize("granularity", ["4x4", "2:4"])
def test_text(tmp_path: Path, granularity: str) -> None:
    inputs = sentences(2)
    free = {name: {0: torch.export.Dim("batch", min=1)} for name in inputs}
    program = torch.export.export(Sentences().eval(), (), inputs, dynamic_shapes=free)
    torch.export.save(program, tmp_path / "text.pt")
    np.savez(tmp_path / "words.npz", **{name: tensor.numpy() for name, tensor in sentences(16).items()})
    build = tmp_path / "build"
    options = ("--data", tmp_path / "words.npz", "--steps", "4", "--granularity", granularity, "--backend", "pt2")
    assert main([str(part) for part in ("compile", tmp_path / "text.pt", TARGET, *options, "-o", build)]) == 0
    report = Report.load(build / "report.json")
    assert all(proof.passed for proof in report.verify)
    assert {"wide.weight", "narrow.weight"} <= set(json.loads((build / "plan.json").read_text())["masks"])


def test_a_build_that_was_trained_is_replaced_by_force_only(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = tmp_path / "build"
    plain = ("compile", folder / "program.pt", TARGET, "--backend", "pt2", "-o", build)
    learning = ("--data", folder / "data.npz", "--steps", "4", "--granularity", "4x4")
    for options in ((), learning):
        assert main([str(part) for part in (*plain, *options)]) == 0
    before = _plan_hash(build)
    capsys.readouterr()
    message = f"{build}: it holds a build that was trained for 4 steps, which would be replaced. "
    assert _refused(capsys, *plain) == f"{message}Add --force to replace it, or choose another folder."
    assert _plan_hash(build) == before
    assert main([str(part) for part in (*plain, "--force", "--quiet")]) == 0
    assert capsys.readouterr() == ("", "")
    assert _plan_hash(build) != before


def test_an_interrupted_training_names_its_checkpoint(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Checkpoint, search: MaskSearch, optimizer: torch.optim.Optimizer) -> None:
        if search.done == 3:
            self.write(search, optimizer)
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "keep", interrupt)
    build = tmp_path / "build"
    learning = ("--data", folder / "data.npz", "--steps", "6", "--granularity", "4x4", "--backend", "pt2")
    command = [str(part) for part in ("compile", folder / "program.pt", TARGET, *learning, "-o", build)]
    assert main(command) == 130
    state = tmp_path / "build.checkpoint"
    advice = "Add --resume to the same command to go on with it."
    assert capsys.readouterr().err == f"smartc: interrupted: {state} holds the training so far. {advice}\n"
    monkeypatch.undo()
    assert main([*command, "--resume"]) == 0
    assert not state.exists()
    capsys.readouterr()
    missing = f"{state}: there is no unfinished training to go on with. "
    fix = "Leave --resume out to begin, or name the place of one that was cut off."
    assert _refused(capsys, *command, "--resume") == missing + fix


def test_stages_are_told_where_that_is_asked_for(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("compile", folder / "program.pt", TARGET, "--backend", "pt2", "--verbose", "-o", tmp_path / "build")
    done = _smartc(folder, *command)
    assert done.returncode == 0
    stages = [line.split(":")[1].strip() for line in done.stderr.splitlines() if line.endswith(" CPU seconds")]
    assert stages[:2] == ["capture", "analysis"]
    assert stages[-1] == "evaluation"
