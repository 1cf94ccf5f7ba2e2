"""The architecture page tells the truth: its folders are those of the import order, and what it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.test_layering import FOLDERS, ORDER

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TOP = "smartc|passes|targets|tests|benchmarks|examples|docs"
COMPILE = ast.parse((ROOT / "smartc" / "compile.py").read_text(encoding="utf-8"))
# ``a/path``, ``a/path.py: name`` or ``a/path.py: Class.name`` in code type.
MENTIONS = sorted(set(re.findall(rf"`((?:{TOP})(?:/[\w./-]+)?(?:: [\w.]+)?)`", PAGE)))


def place(module: str) -> str:
    """Return the folder or file of an entry of the import order, as the page writes it."""
    package = next(name for name in sorted(FOLDERS, key=len, reverse=True) if f"{module}.".startswith(f"{name}."))
    path = FOLDERS[package] + module.removeprefix(package).replace(".", "/")
    return path if (ROOT / path).is_dir() else f"{path}.py"


def defined(body: list[ast.stmt]) -> set[str]:
    """Return the names that statements define, those of a class behind its own."""
    names: set[str] = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{name}" for name in defined(node.body)}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}
    return names


def test_stages_are_those_of_a_compile_in_its_order() -> None:
    section = PAGE.partition("## The flow")[2].partition("\n## ")[0]
    stages = ", ".join(re.findall(r"^\| (\w+) \| `", section, re.MULTILINE))
    assert (ast.get_docstring(COMPILE) or "").endswith(f": {stages}.")
    assert f": {stages}</title>" in (ROOT / "docs" / "flow.svg").read_text(encoding="utf-8")


def test_folders_are_listed_in_the_order_of_imports() -> None:
    section = PAGE.partition("## The folders, in order")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE) == [place(module) for module in ORDER]


@pytest.mark.parametrize("mention", MENTIONS)
def test_what_is_named_exists(mention: str) -> None:
    path, _, name = mention.partition(": ")
    assert (ROOT / path).exists()
    assert not name or name in defined(ast.parse((ROOT / path).read_text(encoding="utf-8")).body)


def test_questions_and_promises_name_definitions() -> None:
    assert sum(": " in mention for mention in MENTIONS) >= 30
