"""What the pages of the documentation tell users to write is understood, and nothing public is left out."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest

import smartc
from smartc.cli.main import command_line
from smartc.learning.learners.registry import LEARNERS
from smartc.targets.parse import leaves
from smartc.targets.target import load_target

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Return the calls of smartc in blocks of code, without what a comment says beside them."""
    fences = [fence for page in PAGES for fence in FENCE.findall(page.read_text("utf-8"))]
    blocks = [text for language, text in fences if language in ("", "sh")]
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    return sorted({line for line in lines if line.startswith("smartc ")})


@pytest.mark.parametrize("line", commands())
def test_a_command_is_one_that_there_is(line: str) -> None:
    assert command_line().parse_args(shlex.split(line)[1:]).command


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_is_named_wherever_learners_are_listed(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit):
        command_line().parse_args(["compile", "--help"])
    (options,) = re.findall("--learner NAME +where masks come from: (.*)", capsys.readouterr().out)
    assert re.search(rf"\b{name}\b", options)
    assert all(f"``{name}``" in (function.__doc__ or "") for function in (smartc.compile, smartc.prepare))
    assert f"`{name}`" in (ROOT / "README.md").read_text("utf-8").partition("Where masks come from")[2]


def test_there_are_commands() -> None:
    assert len(commands()) >= 12


@pytest.mark.parametrize("name", smartc.__all__)
def test_what_is_public_is_on_the_python_page(name: str) -> None:
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    assert re.search(rf"(:: |`)smartc\.{name}\b", page)


def test_every_key_of_a_target_has_a_meaning() -> None:
    meanings = runpy.run_path(str(ROOT / "docs" / "target_key_meanings.py"))["MEANINGS"]
    keys = [key for key in leaves(load_target("npu-8x8")) if key not in ("schema", "source")]
    assert list(meanings) == keys
