"""Whole files of every kind, which the tests mutate."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import smartc
from tests.support.small_networks import SHAPE, small


@pytest.fixture(scope="package")
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
    return folder
