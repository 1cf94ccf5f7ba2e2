"""The examples of CONTRIBUTING.md run, each in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"<!-- example: (\w+) -->\n```(python|toml)\n(.*?)```", re.DOTALL)
NAMES = ("operator", "pass", "device", "learner", "backend")


def test_every_block_belongs_to_an_example() -> None:
    blocks = BLOCK.findall(PAGE)
    assert tuple(dict.fromkeys(name for name, _, _ in blocks)) == NAMES
    assert len(blocks) == len(re.findall(r"^```(?:python|toml)$", PAGE, re.MULTILINE))


@pytest.mark.slow
@pytest.mark.parametrize("example", NAMES)
def test_runs(example: str, tmp_path: Path) -> None:
    for name, language, text in BLOCK.findall(PAGE):
        if name == example and language == "toml":
            file = text.partition("\n")[0].removeprefix("# ")
            (tmp_path / file).write_text(text, encoding="utf-8")
        elif name == example:
            done = subprocess.run(
                [sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
