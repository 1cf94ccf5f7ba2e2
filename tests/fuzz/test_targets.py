"""Targets of any content are used or refused in one line, and what is used compiles."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartc.targets.target import load_target
from smartc.targets.toml_text import toml_text
from tests.fuzz.command import run_command
from tests.fuzz.mutations import FUZZ, mutated_bytes, mutated_value

pytestmark = pytest.mark.slow

OVER_BASE = {
    "base": "npu-8x8",
    "target": {"name": "mine"},
    "array": {"rows": 16, "frequency_hz": 1e9},
    "sparsity": {"tile": [16, 8]},
    "source": {"array": "a data sheet", "sparsity.tile": "the array"},
}
WHOLE = load_target("npu-8x8").to_dict()


def _toml(value: Any) -> str:
    """Return a value as TOML has it on one line, even one that TOML cannot have."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize("content", [OVER_BASE, WHOLE], ids=["over-base", "whole"])
@given(data=st.data())
@FUZZ
def test_values(content: dict[str, Any], whole: Path, data: st.DataObject) -> None:
    mutated = data.draw(mutated_value(content))
    text = "".join(f"{json.dumps(key)} = {_toml(value)}\n" for key, value in mutated.items())
    path = whole / "mutated.toml"
    path.write_bytes(text.encode(errors="surrogatepass"))
    if run_command("targets", path) == 0:
        run_command(
            "compile", whole / "model.pt2", "--target", path, "--backend", "pt2", "-o", whole / "out", "--force"
        )


@pytest.mark.parametrize("name", ["npu-8x8", "cpu"])
@given(data=st.data())
@FUZZ
def test_texts(name: str, whole: Path, data: st.DataObject) -> None:
    path = whole / "mutated.toml"
    path.write_bytes(data.draw(mutated_bytes(toml_text(load_target(name)).encode())))
    run_command("targets", path)
