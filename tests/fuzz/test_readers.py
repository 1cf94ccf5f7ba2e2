"""Whatever is in a file: exit code 0 or 2, at most one line on standard error, and nothing of it is run."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import pickle
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load, save, save_file

import smartc
from smartc.cli.main import main
from smartc.data.labelled import load_labelled
from smartc.data.samples import load_samples
from tests.fuzz.mutations import FUZZ, mutated_bytes, mutated_json
from tests.support.small_networks import SHAPE, small

pytestmark = pytest.mark.slow

MOST_MEMORY = 2**31
FACTORY = "tests.support.small_networks:small"
TARGET = 'base = "npu-8x8"\n[target]\nname = "mine"\n[memory]\nbandwidth_bytes_per_s = 1e9\n[source]\n"memory" = "x"\n'


class _Canary:
    """Write a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        """Return the call that writes it."""
        return open, (str(self.path), "w")


def _run(*arguments: object) -> None:
    """Run a command and hold it to the property."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        code = main([str(argument) for argument in arguments])
    text = errors.getvalue()
    assert code in (0, 2), text
    assert text.count("\n") == (code == 2), text
    assert "Traceback" not in text
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before < MOST_MEMORY


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a build, and files of every kind that is read."""
    folder = tmp_path_factory.mktemp("fuzz")
    model = small()
    compiled = smartc.compile(model, torch.zeros(2, *SHAPE), target="npu-8x8", backends=("pt2",))
    compiled.save(folder / "build")
    compiled.apply(model, output=folder / "applied.safetensors")
    shutil.copy(folder / "build/model.pt2", folder / "model.pt2")
    torch.save(model.state_dict(), folder / "state.pt")
    save_file(model.state_dict(), folder / "state.safetensors")
    inputs = np.random.default_rng(0).integers(0, 256, (4, *SHAPE), dtype=np.uint8)
    np.savez(folder / "data.npz", inputs=inputs, labels=np.arange(4))
    np.save(folder / "data.npy", inputs)
    torch.save({"inputs": torch.from_numpy(inputs), "labels": torch.arange(4)}, folder / "data.pt")
    save_file({"inputs": torch.from_numpy(inputs), "labels": torch.arange(4)}, folder / "data.safetensors")
    (folder / "images").mkdir()
    for form in ("png", "jpg", "bmp", "webp"):
        Image.fromarray(inputs[0].transpose(1, 2, 0)).save(folder / f"images/a.{form}")
    (folder / "mine.toml").write_text(TARGET)
    return folder


@pytest.mark.parametrize("name", ["model.pt2", "state.pt", "state.safetensors"])
@given(data=st.data())
@FUZZ
def test_model_files(name: str, whole: Path, data: st.DataObject) -> None:
    path = whole / f"mutated-{name}"
    path.write_bytes(data.draw(mutated_bytes((whole / name).read_bytes())))
    options = () if name == "model.pt2" else ("--model", FACTORY, "--input", "2x3x8x8")
    _run("explain", path, *options)


@pytest.mark.parametrize("form", ["torch", "pickle"])
@given(data=st.data())
@FUZZ
def test_nothing_in_a_file_is_run(form: str, whole: Path, data: st.DataObject) -> None:
    path, canary = whole / f"canary-{form}", whole / "canary"
    if form == "torch":
        torch.save({"inputs": _Canary(canary)}, path)
    else:
        path.write_bytes(pickle.dumps(_Canary(canary)))
    path.write_bytes(data.draw(st.one_of(st.just(path.read_bytes()), mutated_bytes(path.read_bytes()))))
    _run("explain", path, "--model", FACTORY, "--input", "2x3x8x8")
    _run("run", whole / "build", "--input", path)
    with contextlib.suppress(smartc.UserError):
        load_labelled(str(path))
    assert not canary.exists()


@given(data=st.data())
@FUZZ
def test_targets(whole: Path, data: st.DataObject) -> None:
    path = whole / "mutated.toml"
    path.write_bytes(data.draw(mutated_bytes(TARGET.encode())))
    _run("targets", path)


@pytest.mark.parametrize("name", ["plan.json", "report.json"])
@given(data=st.data())
@FUZZ
def test_descriptions_with_their_hash_renewed(name: str, whole: Path, data: st.DataObject) -> None:
    folder = whole / "renewed"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole / "build", folder)
    content = data.draw(mutated_json((folder / name).read_bytes()))
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    _run("explain", folder)
    _run("explain", folder, "3")
    _run("report", folder, "--all")
    _run("report", folder, "--csv")
    _run("report", folder, "--html", whole / "page.html")
    _run("compare", folder, whole / "build")
    _run("apply", folder, FACTORY, "-o", whole / "again.safetensors")
    with contextlib.suppress(smartc.UserError):
        smartc.load(folder)


@given(data=st.data())
@FUZZ
def test_manifests(whole: Path, data: st.DataObject) -> None:
    folder = whole / "listed"
    shutil.copytree(whole / "build", folder, dirs_exist_ok=True)
    content = (whole / "build/manifest.json").read_bytes()
    (folder / "manifest.json").write_bytes(data.draw(st.one_of(mutated_json(content), mutated_bytes(content))))
    _run("report", folder)
    _run("explain", folder, "3")
    _run("verify", folder)


@pytest.mark.parametrize("name", ["data.npz", "data.npy", "data.pt", "data.safetensors"])
@given(data=st.data())
@FUZZ
def test_data_files(name: str, whole: Path, data: st.DataObject) -> None:
    path = whole / f"mutated-{name}"
    path.write_bytes(data.draw(mutated_bytes((whole / name).read_bytes())))
    _run("run", whole / "build", "--input", path)
    model = smartc.trace(small(), torch.zeros(2, *SHAPE))
    with contextlib.suppress(smartc.UserError):
        smartc.compile(model, target="npu-8x8", evaluate=str(path), backends=())
    with contextlib.suppress(smartc.UserError):
        load_samples(str(path), model)


@given(data=st.data())
@FUZZ
def test_applied_weights(whole: Path, data: st.DataObject) -> None:
    path = whole / "mutated-applied.safetensors"
    content = (whole / "applied.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    about = json.loads(content[8 : 8 + length])["__metadata__"]["smartc"].encode()
    described = data.draw(mutated_json(about)).decode("utf-8", "replace")
    path.write_bytes(data.draw(st.one_of(mutated_bytes(content), st.just(save(load(content), {"smartc": described})))))
    with contextlib.suppress(smartc.UserError):
        smartc.resized(small(), path)


@pytest.mark.parametrize("form", ["png", "jpg", "bmp", "webp"])
@given(data=st.data())
@FUZZ
def test_images(form: str, whole: Path, data: st.DataObject) -> None:
    folder = whole / "mutated-images"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    content = (whole / f"images/a.{form}").read_bytes()
    (folder / f"a.{form}").write_bytes(data.draw(mutated_bytes(content)))
    with contextlib.suppress(smartc.UserError):
        load_samples(str(folder), smartc.trace(small(), torch.zeros(2, *SHAPE)), "unit")


COMMANDS = ("compile", "run", "apply", "report", "explain", "verify", "compare", "targets")
VALUES = ("npu-8x8", "--sparsity=--", "--", "0.5", "--latency=", "1e999x", "1x3x-8", "nope", "", "\udcff", "-", "\x00")
WORDS = st.sampled_from((*COMMANDS, *VALUES, "--target", "--sparsity", "-o", "--input", "build", "model.pt2"))


@given(words=st.lists(st.one_of(WORDS, st.text(max_size=8)), max_size=7))
@FUZZ
def test_command_lines(words: list[str], whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(whole)
    if "calibrate" not in words and not {"-h", "--help"} & set(words) and "--debug" not in words:
        _run(*words)
