"""Samples are read from every form of file, and files that hold none are refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from smartc.data.samples import load_samples
from tests.support.sample_networks import images, refused, words

FORMS = "Give an .npz, .npy, .safetensors or .pt file of arrays, a folder of images, or package.module:function."
IMAGES = images()


def _save(path: Path, content: Any) -> Path:
    """Save tensors in the form that the name asks for."""
    if path.suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in content.items()})
    elif path.suffix == ".npy":
        np.save(path, content.numpy())
    elif path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize("form", ["npz", "safetensors", "pt"])
@pytest.mark.parametrize("names", [("x", "labels"), ("inputs", "y"), ("images", "targets")])
def test_arrays_by_name(tmp_path: Path, form: str, names: tuple[str, str]) -> None:
    pixels, labels = torch.rand(6, 3, 4, 4), torch.arange(6)
    path = _save(tmp_path / f"data.{form}", dict(zip(names, (pixels, labels), strict=True)))
    samples = load_samples(str(path), IMAGES)
    (batch,) = samples.in_order(6)
    assert (samples.source, samples.count, samples.labelled) == (f"data.{form}", 6, True)
    assert batch.labels is not None
    assert torch.equal(batch.inputs[0], pixels)
    assert torch.equal(batch.labels, labels)


@pytest.mark.parametrize("form", ["npz", "safetensors", "pt"])
def test_several_inputs(tmp_path: Path, form: str) -> None:
    ids, mask = torch.randint(11, (6, 5)), torch.randint(2, (6, 5))
    path = _save(tmp_path / f"data.{form}", {"attention_mask": mask, "input_ids": ids})
    samples = load_samples(path, words())
    (batch,) = samples.in_order(6)
    assert not samples.labelled
    assert torch.equal(batch.inputs[0], ids)
    assert torch.equal(batch.inputs[1], mask)


@pytest.mark.parametrize(
    ("name", "count"), [("one.npy", 6), ("one.pt", 6), ("pair.pt", 6), ("batches.pt", 12), ("any-name", 6)]
)
def test_arrays_without_names(tmp_path: Path, name: str, count: int) -> None:
    pixels, labels = torch.rand(6, 3, 4, 4), torch.arange(6)
    content = {"pair.pt": (pixels, labels), "batches.pt": [(pixels, labels)] * 2}.get(name, pixels)
    samples = load_samples(_save(tmp_path / name, content), IMAGES)
    assert (samples.source, samples.count, samples.labelled) == (name, count, name in ("pair.pt", "batches.pt"))
    assert torch.equal(next(samples.in_order(6)).inputs[0], pixels)


def test_files_that_hold_no_samples(tmp_path: Path) -> None:
    takes = "the model takes x: float32 Nx3x4x4"
    rest = "Name the arrays after the model's inputs, the labels `labels`, and leave out the rest."
    good = _save(tmp_path / "good.npz", {"x": torch.zeros(4, 3, 4, 4)})
    _save(tmp_path / "names.npz", {"a": torch.zeros(3), "b": torch.zeros(3)})
    _save(tmp_path / "short.npz", {"x": torch.zeros(4, 3, 4, 4), "y": torch.zeros(3)})
    _save(tmp_path / "list.pt", [torch.zeros(4, 3, 4, 4), torch.zeros(4, 3)])
    _save(tmp_path / "nothing.pt", [])
    _save(tmp_path / "number.pt", 3)
    _save(tmp_path / "module.pt", nn.Linear(2, 2))
    np.savez(tmp_path / "objects.npz", x=np.array([{}, 1], dtype=object))
    np.save(tmp_path / "text.npy", np.array(["a"]))
    (tmp_path / "raw.pkl").write_bytes(pickle.dumps({"x": Path("a")}, protocol=4))
    (tmp_path / "cut.npz").write_bytes(good.read_bytes()[:200])
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "empty.npz").write_bytes(b"")
    for name, message in {
        "names.npz": f"it holds a, b and {takes}. {rest}",
        "short.npz": "labels has the shape 3 and there are 4 samples of x. Give one entry per sample, along axis 0.",
        "nothing.pt": "it yields no batches. Yield at least one.",
        "number.pt": f"it holds int. {FORMS}",
        "module.pt": f"it holds Python objects, which could run code when loaded. {FORMS}",
        "objects.npz": f"it holds Python objects, which could run code when loaded. {FORMS}",
        "raw.pkl": f"it holds Python objects, which could run code when loaded. {FORMS}",
        "text.npy": "x is <U1. Store it as numbers.",
        "cut.npz": f"it is damaged, or no file of arrays. {FORMS}",
        "text.pt": f"it is damaged, or no file of arrays. {FORMS}",
        "empty.npz": f"it is damaged, or no file of arrays. {FORMS}",
        "nowhere.npz": "there is no such file. Check the path.",
    }.items():
        path = tmp_path / name
        assert refused(str(path), IMAGES) == f"{path}: {message}"
    path = tmp_path / "list.pt"
    assert refused(path, IMAGES) == f"{path}, batch 1: x has the shape 4x3 and {takes}. Reshape it."


def test_tensors_whose_elements_are_not_stored_are_refused(tmp_path: Path) -> None:
    fact = "it holds a sparse, nested, meta or expanded tensor, whose elements are not stored"
    for place, tensor in enumerate((torch.zeros(4, device="meta"), torch.zeros(1, 3, 4, 4).expand(10**9, 3, 4, 4))):
        path = tmp_path / f"{place}.pt"
        torch.save(tensor, path)
        assert refused(path, IMAGES) == f"{path}: {fact}. Save it as an ordinary tensor, by .contiguous()."


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.safetensors"])
def test_a_size_beyond_the_file_is_refused(tmp_path: Path, name: str) -> None:
    path = _save(tmp_path / name, torch.rand(6, 3, 4, 4) if name == "x.npy" else {"x": torch.rand(6, 3, 4, 4)})
    old, new = (b"[6,3,4,4]", b"[9,9,9,9]") if name == "x.safetensors" else (b"(6, 3, 4, 4)", b"(9, 9, 9, 9)")
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    assert refused(path, IMAGES) == f"{path}: it is damaged, or no file of arrays. {FORMS}"
