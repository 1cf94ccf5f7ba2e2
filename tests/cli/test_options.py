"""Errors name arguments in Python and options on the command line, and only there."""

from __future__ import annotations

import ast
import inspect
import logging
import re
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

import pytest

import smartc
from smartc.cli.main import command_line
from smartc.cli.options import as_option, logged_as_options
from smartc.core.errors import Argument, UserError
from smartc.frontend.model_file import load_model

ROOT = Path(__file__).parents[2]
# A space, a quotation mark or nothing before it, so that no dash of a text counts.
OPTION = re.compile(r"(?<![\w-])--(?=[a-z]|$)")
# It prints for the command line.
SPEAKING = ROOT / "smartc" / "reporting" / "terminal.py"


def library() -> Iterator[tuple[Path, ast.Module]]:
    """Yield every module that people use from Python."""
    for folder in ("smartc", "passes", "targets"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if ROOT / "smartc" / "cli" not in path.parents and path != SPEAKING:
                yield path, ast.parse(path.read_text("utf-8"))


def named_arguments() -> set[str]:
    """Return the names of all arguments that errors speak of by a literal name."""
    calls = (node for _, tree in library() for node in ast.walk(tree) if isinstance(node, ast.Call))
    firsts = (call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Argument")
    return {str(first.value) for first in firsts if isinstance(first, ast.Constant)} | {"latency", "macs", "bytes"}


def options_of_compile() -> set[str]:
    """Return the options of ``smartc compile``."""
    (commands,) = (action.choices for action in command_line()._actions if action.dest == "command")
    assert isinstance(commands, dict)
    parser = commands["compile"]
    assert isinstance(parser, ArgumentParser)
    return {option for action in parser._actions for option in action.option_strings}


def test_the_library_speaks_of_no_option() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.value}"
        for path, tree in library()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and OPTION.search(node.value)
    ]
    assert found == []


def test_the_arguments_that_errors_name_are_there_in_python() -> None:
    takers = (smartc.compile, smartc.prepare, smartc.Settings, load_model)
    known = {name for taker in takers for name in inspect.signature(taker).parameters}
    assert named_arguments() - known == set()


def test_the_arguments_that_errors_name_have_options() -> None:
    assert {as_option(Argument(name)) for name in named_arguments()} - options_of_compile() == set()


@pytest.mark.parametrize(
    ("argument", "in_python", "as_an_option"),
    [
        (Argument("granularity", "2:4"), "granularity='2:4'", "--granularity 2:4"),
        (Argument("sparsity", 1.0), "sparsity=1.0", "--sparsity 1.0"),
        (Argument("data"), "data=...", "--data"),
        (Argument("resume", True), "resume=True", "--resume"),
        (Argument("allow_pickle", True), "allow_pickle=True", "--allow-pickle"),
        (Argument("backends", ("onnx", "tvm")), "backends=('onnx', 'tvm')", "--backend onnx,tvm"),
        (Argument("evaluate", "shop:top5"), "evaluate='shop:top5'", "--eval shop:top5"),
        (Argument("train", options_of_compile), "train=options_of_compile", None),
    ],
)
def test_an_argument_has_two_spellings(argument: Argument, in_python: str, as_an_option: str | None) -> None:
    assert str(argument) == in_python
    if as_an_option is not None:
        assert as_option(argument) == as_an_option


def test_an_error_spells_its_arguments_for_its_reader() -> None:
    where = ("model.pt, ", Argument("factory", "shop:net"))
    error = UserError(("no ", Argument("data")), where=where, fix=("Add ", Argument("data"), " to it"))
    assert str(error) == "model.pt, factory='shop:net': no data=... Add data=... to it."
    assert (error.where, error.fact, error.fix) == ("model.pt, factory='shop:net'", "no data=...", "Add data=... to it")
    assert error.message(as_option) == "model.pt, --model shop:net: no --data. Add --data to it."


def test_a_log_spells_its_arguments_for_the_command_line() -> None:
    record = logging.LogRecord("smartc", logging.WARNING, __file__, 1, "%s: %d", (Argument("data", "a:b"), 3), None)
    assert record.getMessage() == "data='a:b': 3"
    assert logged_as_options(record)
    assert record.getMessage() == "--data a:b: 3"
