"""Whatever is in a file: exit code 0 or 2, at most one line on standard error, and nothing of it is run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save

import smartc
from smartc.data.labelled import load_labelled
from smartc.data.samples import load_samples
from tests.fuzz.command import run_command
from tests.fuzz.mutations import FUZZ, mutated_bytes, mutated_json
from tests.support.small_networks import SHAPE, small

pytestmark = pytest.mark.slow

FACTORY = "tests.support.small_networks:small"


class _Canary:
    """Write a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        """Return the call that writes it."""
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", ["model.pt2", "state.pt", "state.safetensors"])
@given(data=st.data())
@FUZZ
def test_model_files(name: str, whole: Path, data: st.DataObject) -> None:
    path = whole / f"mutated-{name}"
    path.write_bytes(data.draw(mutated_bytes((whole / name).read_bytes())))
    options = () if name == "model.pt2" else ("--model", FACTORY, "--input", "2x3x8x8")
    run_command("explain", path, *options)


@pytest.mark.parametrize("form", ["torch", "pickle"])
@given(data=st.data())
@FUZZ
def test_nothing_in_a_file_isrun_command(form: str, whole: Path, data: st.DataObject) -> None:
    path, canary = whole / f"canary-{form}", whole / "canary"
    if form == "torch":
        torch.save({"inputs": _Canary(canary)}, path)
    else:
        path.write_bytes(pickle.dumps(_Canary(canary)))
    path.write_bytes(data.draw(st.one_of(st.just(path.read_bytes()), mutated_bytes(path.read_bytes()))))
    run_command("explain", path, "--model", FACTORY, "--input", "2x3x8x8")
    run_command("run", whole / "build", "--input", path)
    with contextlib.suppress(smartc.UserError):
        load_labelled(str(path))
    assert not canary.exists()


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
    run_command("explain", folder)
    run_command("explain", folder, "3")
    run_command("report", folder, "--all")
    run_command("report", folder, "--csv")
    run_command("report", folder, "--html", whole / "page.html")
    run_command("compare", folder, whole / "build")
    run_command("apply", folder, FACTORY, "-o", whole / "again.safetensors")
    with contextlib.suppress(smartc.UserError):
        smartc.load(folder)


@given(data=st.data())
@FUZZ
def test_manifests(whole: Path, data: st.DataObject) -> None:
    folder = whole / "listed"
    shutil.copytree(whole / "build", folder, dirs_exist_ok=True)
    content = (whole / "build/manifest.json").read_bytes()
    (folder / "manifest.json").write_bytes(data.draw(st.one_of(mutated_json(content), mutated_bytes(content))))
    run_command("report", folder)
    run_command("explain", folder, "3")
    run_command("verify", folder)


@pytest.mark.parametrize("name", ["data.npz", "data.npy", "data.pt", "data.safetensors"])
@given(data=st.data())
@FUZZ
def test_data_files(name: str, whole: Path, data: st.DataObject) -> None:
    path = whole / f"mutated-{name}"
    path.write_bytes(data.draw(mutated_bytes((whole / name).read_bytes())))
    run_command("run", whole / "build", "--input", path)
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
        run_command(*words)
