"""A target that is written as TOML is read back as the same target."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from smartc.cli.main import main
from smartc.targets.target import load_target, target_names
from smartc.targets.toml_text import toml_text


@pytest.mark.parametrize("name", target_names())
def test_what_is_written_is_read_back(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", name, "--toml"]) == 0
    text, errors = capsys.readouterr()
    assert errors == ""
    (tmp_path / "own.toml").write_text(text)
    assert load_target(str(tmp_path / "own.toml")) == load_target(name)


def test_text_of_any_kind_comes_back(tmp_path: Path) -> None:
    target = load_target("npu-8x8")
    odd = 'a "quote", a \\, a\ttab, a \x7f and \u00b5'
    odd_target = replace(target, source={**target.source, "array.rows": odd})
    (tmp_path / "own.toml").write_text(toml_text(odd_target), encoding="utf-8")
    assert load_target(str(tmp_path / "own.toml")) == odd_target
