"""An exported program that holds code is refused, and the code does not run."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from smartc.frontend.exported_archive import find_code
from smartc.frontend.model_file import load_model
from tests.support.small_networks import SHAPE, Refusal, save_program

TRUST = "Pass allow_pickle=True if you trust its source, or ask for an exported program or a state_dict."
Edit = Callable[[str, bytes], bytes]


class Planted:
    """Make a folder when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def _edited(source: Path, place: Path, edit: Edit) -> Path:
    """Copy an archive with each record edited."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(place, "w") as copy:
        for name in archive.namelist():
            copy.writestr(name, edit(name.partition("/")[2], archive.read(name)))
    return place


def _replacing(old: bytes, new: bytes) -> Edit:
    """Return an edit of the graph's description, by a regular expression."""

    def edit(name: str, content: bytes) -> bytes:
        if name != "models/model.json":
            return content
        changed = re.sub(old, lambda _: new, content)
        assert changed != content
        return changed

    return edit


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (
            rb"Symbol\('s\d+', positive=True, integer=True\)",
            b"""exec(\\"import os; os.mkdir('m')\\")""",
            """'exec("import os; os.mkdir(\\'m\\')")'""",
        ),
        (b"torch.ops.aten.relu.default", b"torch.os.mkdir", "'torch.os.mkdir'"),
        (b"torch.ops.aten.relu.default", b"_operator.call", "'_operator.call'"),
        (
            rb'"forward_arg_names": \["input"\]',
            b"\"forward_arg_names\": [\"input=__import__('os').mkdir('m')\"]",
            """"input=__import__('os').mkdir('m')\"""",
        ),
        (b'"0.weight"', b'"0.weight\\"+x+\\""', """'0.weight"+x+"'"""),
        (rb"Symbol\('s\d+', positive=True, integer=True\)", b"9**9**9**9", "'9**9**9**9'"),
    ],
)
def test_text_that_could_become_source(model_files: Path, tmp_path: Path, old: bytes, new: bytes, text: str) -> None:
    _edited(model_files / "program.pt", tmp_path / "program.pt", _replacing(old, new))
    assert Refusal(tmp_path)("program.pt") == (
        f"program.pt: it holds the text {text} in models/model.json, which can run code when it is loaded. {TRUST}"
    )


EVIL = {"type": "builtins.dict", "context": '{"__enum__": true, "fqn": "evil_module:E", "name": "a"}'}


@pytest.mark.parametrize("side", ["in_spec", "out_spec"])
def test_a_tree_that_names_a_module(
    model_files: Path, tmp_path: Path, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil_module.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(tmp_path)

    def edit(name: str, content: bytes) -> bytes:
        if name != "models/model.json":
            return content
        described = json.loads(content)
        signature = described["graph_module"]["module_call_graph"][0]["signature"]
        signature[side] = json.dumps([1, {**EVIL, "children_spec": []}])
        return json.dumps(described).encode()

    _edited(model_files / "program.pt", tmp_path / "program.pt", edit)
    message = Refusal(tmp_path)("program.pt")
    assert "evil_module" not in sys.modules
    assert message.startswith("program.pt: it holds the text '[1, {")
    assert message.endswith(f"in models/model.json, which can run code when it is loaded. {TRUST}")


@pytest.mark.parametrize("field", ["sizes", "storage_offset"])
def test_sizes_without_bytes(model_files: Path, tmp_path: Path, field: str) -> None:
    def edit(name: str, content: bytes) -> bytes:
        if name != "data/weights/model_weights_config.json":
            return content
        described = json.loads(content)
        meta = next(entry["tensor_meta"] for key, entry in described["config"].items() if key == "0.weight")
        if field == "sizes":
            meta["sizes"][0] = {"as_int": 10**9}
            meta["strides"] = [{"as_int": 0}] * len(meta["sizes"])
        else:
            meta["storage_offset"] = {"as_int": 10**6}
        return json.dumps(described).encode()

    _edited(model_files / "program.pt", tmp_path / "program.pt", edit)
    assert Refusal(tmp_path)("program.pt") == (
        "program.pt: it declares more elements for 0.weight than it holds bytes for. "
        "Copy or download it again, or save the model again."
    )


def test_an_example_without_bytes(model_files: Path, tmp_path: Path) -> None:
    def edit(name: str, content: bytes) -> bytes:
        if name != "data/sample_inputs/model.pt":
            return content
        large = io.BytesIO()
        torch.save(((torch.zeros(1).expand(10**9, 3, 8, 8),), {}), large)
        return large.getvalue()

    _edited(model_files / "program.pt", tmp_path / "program.pt", edit)
    assert "it declares more elements for an example input than it holds bytes for" in Refusal(tmp_path)("program.pt")


@pytest.mark.parametrize(
    "bare", [torch.zeros(1).expand(10**9), torch.empty(2, 2, device="meta"), torch.eye(3).to_sparse()]
)
def test_a_state_without_bytes(tmp_path: Path, bare: torch.Tensor) -> None:
    torch.save({"first.weight": torch.zeros(2, 2), "bare": bare}, tmp_path / "state.pt")
    message = Refusal(tmp_path)("state.pt", factory="tests.support.small_networks:Tied", input_shapes=("2x3x4x4",))
    assert message.startswith("state.pt: bare is sparse, nested, on the meta device or an expanded view")


def test_an_archive_that_claims_too_much(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/archive_format", "pt2")
        archive.writestr("model/data/weights/weight_0", bytes(1 << 24))
    assert "whose files claim 16777219" in Refusal(tmp_path)("bomb.pt")


def test_a_program_that_torch_cannot_make_a_module_of(model_files: Path, tmp_path: Path) -> None:
    def edit(name: str, content: bytes) -> bytes:
        if name != "models/model.json":
            return content
        described = json.loads(content)
        described["graph_module"]["module_call_graph"][0]["fqn"] = "x"
        return json.dumps(described).encode()

    _edited(model_files / "program.pt", tmp_path / "program.pt", edit)
    message = Refusal(tmp_path)("program.pt")
    assert message.startswith("program.pt: torch.export cannot make a module of the program: expected first ")
    assert message.endswith(". Export the model again.")


def test_a_pickle_of_an_object(model_files: Path, tmp_path: Path) -> None:
    planted = io.BytesIO()
    torch.save(Planted(tmp_path / "mark"), planted)

    def edit(name: str, content: bytes) -> bytes:
        return planted.getvalue() if name == "data/sample_inputs/model.pt" else content

    _edited(model_files / "program.pt", tmp_path / "program.pt", edit)
    assert Refusal(tmp_path)("program.pt") == (
        f"program.pt: it holds the pickle data/sample_inputs/model.pt, which can run code when it is loaded. {TRUST}"
    )
    assert not (tmp_path / "mark").exists()


def test_guards_are_not_run(model_files: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    guards = b"\"guards_code\": [\"__import__('os').mkdir('" + bytes(mark) + b"')\"]"

    def edit(name: str, content: bytes) -> bytes:
        start, found, _ = content.partition(b'"guards_code": ')
        return start + guards + b"}" if name == "models/model.json" and found else content

    _edited(model_files / "program.pt", tmp_path / "program.pt", edit)
    model = load_model(tmp_path / "program.pt")
    assert model.run((torch.zeros(2, 3, 8, 8),)).shape == (2, 10)
    assert not mark.exists()


class Unusual(nn.Module):
    """Use names, sizes and structures that an ordinary model may have."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"a-b": nn.Linear(4, 4), "1x1 conv": nn.Linear(4, 4)})
        self.register_buffer("scale", torch.tensor([2.0]))

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        """Map (N, L, 4) to outputs whose sizes are expressions of N and L."""
        y = self.parts["a-b"](x) + self.parts["1x1 conv"](x) * self.scale * torch.tensor([1.0, 2, 3, 4])
        wide = nn.functional.interpolate(y.transpose(1, 2), scale_factor=2.0)
        return {"out/0": [wide], "(cut)": y.reshape(x.shape[0] * 2, -1)[:, : x.shape[1] // 3 + 1]}


@pytest.mark.slow
def test_ordinary_models_hold_no_code() -> None:
    free = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim.AUTO}
    inputs = {"x": torch.zeros(2, 8, 4)}
    program = torch.export.export(Unusual(), (), inputs, dynamic_shapes={"x": free})
    archive = io.BytesIO()
    torch.export.save(program, archive)
    assert find_code(archive) is None


def test_pythons_bitwise_operators_are_atens(tmp_path: Path) -> None:
    class Masks(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * ((x > 0) & (x < 1) | (x > 2) ^ (x < -1))

    file = save_program(tmp_path / "model.pt2", Masks())
    x = torch.randn(2, *SHAPE)
    assert torch.equal(load_model(file).run((x,)), Masks()(x))
