"""A defect of another runtime costs its file, with a remark, and never the build."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import smartc
from smartc.core.errors import InternalError
from smartc.lowering import lower as lowering
from smartc.lowering.to_onnx import OnnxSession
from tests.support.small_networks import SHAPE, small


def _texts(compiled: smartc.Compiled, file: str) -> list[str]:
    """Return the remarks on a file."""
    return [remark.text for remark in compiled.report.remarks if remark.where == file]


def test_what_onnx_runtime_computes_wrongly_is_not_written(tmp_path: Path) -> None:
    """Its log-sigmoid of a very negative number is minus infinity."""
    first, last = nn.Linear(8, 16), nn.Linear(16, 4)
    with torch.no_grad():
        first.bias.fill_(-200)
    compiled = smartc.compile(nn.Sequential(first, nn.LogSigmoid(), last), torch.randn(2, 8), target="npu-8x8")
    (text,) = _texts(compiled, "model.onnx")
    assert text.startswith("is not written: in ONNX Runtime its output differs from the masked original's by ")
    assert [proof.stage for proof in compiled.report.verify] == ["masked == removed (float64)", "masked == .pt2"]
    compiled.save(tmp_path / "build")
    assert not (tmp_path / "build" / "model.onnx").exists()
    assert (tmp_path / "build" / "model.pt2").exists()


def test_what_onnx_runtime_fails_on_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no kernel\nfor this")

    monkeypatch.setattr(OnnxSession, "run", fail)
    compiled = smartc.compile(small(), torch.zeros(2, *SHAPE), target="npu-8x8")
    assert _texts(compiled, "model.onnx") == ["is not written: in ONNX Runtime no kernel"]


def test_what_an_exporter_fails_on_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise IndexError("list index out of range")

    monkeypatch.setattr(lowering, "to_onnx", fail)
    compiled = smartc.compile(small(), torch.zeros(2, *SHAPE), target="npu-8x8")
    assert _texts(compiled, "model.onnx") == ["is not written: IndexError: list index out of range"]


def test_an_exported_program_that_is_wrong_stops_the_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = lowering.to_program

    def wrong(model: smartc.TracedModel) -> torch.export.ExportedProgram:
        state = {"3.weight": 2 * model.tensor("3.weight").detach()}
        return honest(model.with_tensors(state))

    monkeypatch.setattr(lowering, "to_program", wrong)
    with pytest.raises(InternalError, match=r"stage masked == \.pt2: its output differs from the masked original's"):
        smartc.compile(small(), torch.zeros(2, *SHAPE), target="npu-8x8", backends=("pt2",))
