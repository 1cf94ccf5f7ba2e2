"""What people call says what it offers, and its examples run."""

from __future__ import annotations

import dataclasses
import doctest
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import smartc

OBJECTS = {name: getattr(smartc, name) for name in smartc.__all__ if name != "__version__"}
FUNCTIONS = sorted(name for name, found in OBJECTS.items() if inspect.isfunction(found))
CLASSES = sorted(OBJECTS.keys() - set(FUNCTIONS))


def methods(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties of a class that are its own."""
    for name, member in vars(kind).items():
        if not name.startswith("_") or name == "__call__":
            yield name, inspect.unwrap(getattr(member, "fget", None) or getattr(member, "func", None) or member)


def parameters(function: Any) -> list[str]:
    """Return the names of the parameters but for the object itself."""
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]


def described(docstring: str, section: str) -> str:
    """Return a section of a docstring, nothing where it is not there."""
    return inspect.cleandoc(docstring).partition(f"\n{section}:\n")[2].partition("\n\n")[0]


def entries(docstring: str, section: str) -> set[str]:
    """Return what a section of a docstring speaks of."""
    lines = described(docstring, section).splitlines()
    return {line.split(":")[0].strip().lstrip("*") for line in lines if ":" in line and not line.startswith("     ")}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_says_what_it_takes_returns_and_raises(name: str) -> None:
    docstring = OBJECTS[name].__doc__
    assert parameters(OBJECTS[name]) == [
        part for part in parameters(OBJECTS[name]) if part in entries(docstring, "Args")
    ]
    assert described(docstring, "Returns")
    assert "UserError" in entries(docstring, "Raises")
    assert ">>> import smartc" in described(docstring, "Example")


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_says_what_it_is_and_what_it_holds(name: str) -> None:
    kind = OBJECTS[name]
    docstring = vars(kind)["__doc__"]
    assert docstring
    if dataclasses.is_dataclass(kind):
        assert {field.name for field in dataclasses.fields(kind)} == entries(docstring, "Attributes")
    for member, function in methods(kind):
        if callable(function):
            assert inspect.getdoc(function), f"{name}.{member}"


@pytest.mark.parametrize("name", ["Compiled", "Preparation", "Settings"])
def test_a_method_says_what_it_takes(name: str) -> None:
    for member, function in methods(OBJECTS[name]):
        if callable(function) and parameters(function):
            assert set(parameters(function)) == entries(function.__doc__, "Args"), member


@pytest.mark.parametrize("name", ["Compiled", "Preparation"])
def test_what_is_returned_is_not_read_as_a_type(name: str) -> None:
    # Sphinx takes what stands before a colon, in a property or under Returns, for the type.
    for member, found in vars(OBJECTS[name]).items():
        docstring = "" if member.startswith("_") else inspect.getdoc(found) or ""
        held = not inspect.isfunction(found)
        assert ":" not in (docstring.splitlines() or [""])[0] or not held, member
        assert ":" not in (described(docstring, "Returns").splitlines() or [""])[0], member


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_returns_what_is_not_read_as_a_type(name: str) -> None:
    assert ":" not in described(OBJECTS[name].__doc__, "Returns").splitlines()[0]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_example_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    (example,) = doctest.DocTestFinder(recurse=False).find(OBJECTS[name], name)
    assert example.examples
    said: list[str] = []
    assert doctest.DocTestRunner().run(example, out=said.append).failed == 0, "".join(said)
