"""A dump: a numbered file for every stage, with the graph after it and the passes that ran."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import smartc
from smartc.cli.main import main
from smartc.core.errors import UserError
from smartc.decision.dump import NO_DUMP, Dump

STAGES = "capture analyse decide remove pack lower prove report".split()
SETTINGS = {"target": "npu-8x8", "sparsity": 0.5}


def network() -> nn.Module:
    """Return a small network with a batch norm to be folded."""
    torch.manual_seed(0)
    parts = (nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(inplace=True), nn.Conv2d(32, 8, 3))
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def dumped(folder: Path, **options: object) -> dict[str, str]:
    """Return the files of a dump of a compile by name."""
    smartc.compile(network(), torch.randn(2, 3, 8, 8), dump=folder, **SETTINGS, **options)  # type: ignore[arg-type]
    return {file.name: file.read_text() for file in sorted(folder.iterdir())}


def test_every_stage_is_written_in_order(tmp_path: Path) -> None:
    files = dumped(tmp_path / "dump")
    assert list(files) == [f"{place:02}-{stage}.txt" for place, stage in enumerate(STAGES, 1)]
    assert "make-functional: changed the graph" in files["01-capture.txt"]
    assert "* 2: made relu functional" in files["01-capture.txt"]
    assert "tensor 0.weight" in files["04-remove.txt"]
    assert "float32[32, 3, 3, 3]" in files["01-capture.txt"]
    assert "float32[16, 3, 3, 3]" in files["04-remove.txt"]
    assert "float32[32, 3, 3, 3]" not in files["04-remove.txt"]
    assert "fold-batch-norm" in files["06-lower.txt"]
    assert "masked == removed (float64): relative error" in files["07-prove.txt"]


@pytest.mark.slow
def test_a_compile_is_the_same_with_and_without(tmp_path: Path) -> None:
    x = torch.randn(2, 3, 8, 8)
    plain = smartc.compile(network(), x, **SETTINGS)  # type: ignore[arg-type]
    told = smartc.compile(network(), x, dump=tmp_path / "dump", **SETTINGS)  # type: ignore[arg-type]
    assert plain.plan == told.plan


def test_nothing_of_the_users_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for place, fact in ((tmp_path, "it holds files already"), (tmp_path / "notes.txt", "it is not a folder")):
        with pytest.raises(UserError) as caught:
            Dump.to(place)
        assert str(caught.value) == f"{place}: {fact}. Name a folder that is not there yet."
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert Dump.to(None) is NO_DUMP


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError) as caught:
        Dump(tmp_path / "file" / "dump").stage("capture")
    assert str(caught.value).endswith("it cannot be made (Not a directory). Choose another folder.")


@pytest.mark.slow
def test_the_command_line_dumps_the_capture_too(model_files: Path, tmp_path: Path) -> None:
    folder, build = str(tmp_path / "dump"), str(tmp_path / "build")
    arguments = ["compile", str(model_files / "program.pt"), "--target=npu-8x8", "-o", build, "--dump", folder]
    assert main(arguments) == 0
    assert "drop-assertions" in (tmp_path / "dump" / "01-capture.txt").read_text()
    assert main(arguments) == 2
