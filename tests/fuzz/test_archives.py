"""Archives whose parts are mutated and whose checksums fit: used, or refused in one line, and never run."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import smartc
from smartc.data.labelled import load_labelled
from smartc.data.samples import load_samples
from tests.fuzz.archives import mutated_archive, mutated_npy, mutated_safetensors
from tests.fuzz.command import run_command
from tests.fuzz.mutations import FUZZ
from tests.support.small_networks import SHAPE, small

pytestmark = pytest.mark.slow

MODEL = ("--model", "tests.support.small_networks:small", "--input", "2x3x8x8")
MUTATED = {"pt": mutated_archive, "npz": mutated_archive, "npy": mutated_npy, "safetensors": mutated_safetensors}


@given(data=st.data())
@FUZZ
def test_programs(whole: Path, data: st.DataObject) -> None:
    path = whole / "edited.pt2"
    path.write_bytes(data.draw(mutated_archive((whole / "model.pt2").read_bytes())))
    if run_command("explain", path) == 0:
        run_command("compile", path, "--target=npu-8x8", "--backend", "pt2", "-o", whole / "out", "--force")


@pytest.mark.parametrize("form", ["pt", "safetensors"])
@given(data=st.data())
@FUZZ
def test_states(form: str, whole: Path, data: st.DataObject) -> None:
    path = whole / f"edited-state.{form}"
    path.write_bytes(data.draw(MUTATED[form]((whole / f"state.{form}").read_bytes())))
    run_command("explain", path, *MODEL)


@pytest.mark.parametrize("form", ["npz", "npy", "pt", "safetensors"])
@given(data=st.data())
@FUZZ
def test_samples(form: str, whole: Path, data: st.DataObject) -> None:
    path = whole / f"edited-data.{form}"
    path.write_bytes(data.draw(MUTATED[form]((whole / f"data.{form}").read_bytes())))
    run_command("run", whole / "build", "--input", path)
    model = smartc.trace(small(), torch.zeros(2, *SHAPE))
    with contextlib.suppress(smartc.UserError):
        load_samples(str(path), model)
    with contextlib.suppress(smartc.UserError):
        load_labelled(str(path))
