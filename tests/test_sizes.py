"""Files and functions stay short enough to be read at once."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("smartc", "passes", "targets", "benchmarks", "tests")
MOST_LINES_OF_A_FILE, MOST_LINES_OF_A_FUNCTION = 300, 40
SOURCES = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def function_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function without those of its docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    docstring = function.body[0]
    return lines - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)


def long_functions(source: str) -> dict[str, int]:
    """Return the lines of each function that has too many, by its name."""
    nodes = ast.walk(ast.parse(source))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {function.name: function_lines(function) for function in functions}
    return {name: length for name, length in lengths.items() if length > MOST_LINES_OF_A_FUNCTION}


def test_every_folder_has_files() -> None:
    assert {path.partition("/")[0] for path in SOURCES} == set(FOLDERS)


def test_no_file_is_long() -> None:
    lengths = {path: len(source.splitlines()) for path, source in SOURCES.items()}
    assert {path: length for path, length in lengths.items() if length > MOST_LINES_OF_A_FILE} == {}


def test_no_function_is_long() -> None:
    found = {path: long_functions(source) for path, source in SOURCES.items()}
    assert {path: functions for path, functions in found.items() if functions} == {}


@pytest.mark.parametrize(("lines", "found"), [(39, {}), (40, {"f": 41})])
def test_a_docstring_does_not_count(lines: int, found: dict[str, int]) -> None:
    body = "".join("    x = 1\n" for _ in range(lines))
    assert long_functions(f'def f():\n    """First.\n\n    Second.\n    """\n{body}') == found
