"""Outputs are called what the user's structure calls them, in every file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import smartc
from smartc.cli.main import main
from smartc.core.errors import UserError


class Structured(nn.Module):
    """Return outputs in a structure of the test's."""

    def __init__(self, arrange: Any) -> None:
        super().__init__()
        self.first, self.last, self.arrange = nn.Linear(8, 16), nn.Linear(16, 4), arrange

    def forward(self, x: torch.Tensor) -> Any:
        """Map (N, 8) to (N, 4) and the hidden (N, 16)."""
        hidden = self.first(x).relu()
        return self.arrange(self.last(hidden), hidden)


CASES: list[tuple[Any, tuple[str, ...]]] = [
    (lambda y, h: y, ("output_0",)),
    (lambda y, h: (y, h), ("output_0", "output_1")),
    (lambda y, h: {"logits": y, "hidden": h}, ("logits", "hidden")),
    (lambda y, h: {"logits": y, "states": [h, h + 1]}, ("logits", "states_0", "states_1")),
    (lambda y, h: (y, {"hidden": h}), ("output_0", "output_1_hidden")),
    (lambda y, h: {"x": y, "none": None}, ("x_output",)),
    (lambda y, h: {"a_0": y, "a": [h]}, ("a_0", "a_0_1")),
]


@pytest.mark.parametrize(("arrange", "names"), CASES)
def test_names_follow_the_structure(arrange: Any, names: tuple[str, ...], tmp_path: Path) -> None:
    compiled = smartc.compile(Structured(arrange), torch.zeros(2, 8), target="npu-8x8", sparsity=0.0)
    assert compiled.model.output_names == names
    compiled.save(tmp_path / "build")
    model = onnx.load(str(tmp_path / "build" / "model.onnx"))
    assert tuple(value.name for value in model.graph.output) == names
    sizes = [value.type.tensor_type.shape.dim[0].dim_param for value in (*model.graph.input, *model.graph.output)]
    assert set(sizes) == {"batch"}
    np.savez(tmp_path / "x.npz", x=np.zeros((3, 8), np.float32))
    for file in ("model.onnx", "model.pt2"):
        arguments = ("--input", tmp_path / "x.npz", "--file", file, "-o", tmp_path / "y.npz")
        assert main(["run", str(tmp_path / "build"), *map(str, arguments)]) == 0
        with np.load(tmp_path / "y.npz") as arrays:
            assert tuple(arrays) == names


def test_names_of_the_users_own(tmp_path: Path) -> None:
    model = Structured(lambda y, h: (y, h))
    compiled = smartc.compile(model, torch.zeros(2, 8), target="npu-8x8", output_names=("scores", "code"))
    compiled.save(tmp_path / "build")
    onnx_model = onnx.load(str(tmp_path / "build" / "model.onnx"))
    assert [value.name for value in onnx_model.graph.output] == ["scores", "code"]
    assert smartc.load(tmp_path / "build").model.output_names == ("scores", "code")
    np.save(tmp_path / "x.npy", np.zeros((3, 8), np.float32))
    arguments = ("--input", tmp_path / "x.npy", "--file", "model.pt2", "-o", tmp_path / "y.npz")
    assert main(["run", str(tmp_path / "build"), *map(str, arguments)]) == 0
    with np.load(tmp_path / "y.npz") as arrays:
        assert tuple(arrays) == ("scores", "code")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("a",),
            "1 names are given, and the model has 2 outputs: output_0, output_1. Give a name for each, in this order.",
        ),
        (("a", "a"), "'a' is given twice. Give each output a name of its own."),
        (("a", "x"), "'x' is an input too. Give each output a name of its own."),
        (("a", ""), "'' is no name. Give each output a name of its own."),
    ],
)
def test_names_that_do_not_go(names: tuple[str, ...], message: str) -> None:
    model = Structured(lambda y, h: (y, h))
    with pytest.raises(UserError) as caught:
        smartc.compile(model, torch.zeros(2, 8), target="npu-8x8", output_names=names)
    assert str(caught.value) == f"output_names={names!r}: {message}"
