"""Objects of the user's own code, named in a text as ``package.module:name``."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from smartc.core.errors import OWN_CODE_FAILURES, Phrase, UserError


def load_function(reference: str, where: Phrase) -> Callable[..., Any]:
    """Return the function or class that ``package.module:name`` names.

    Args:
        reference: The text; the name may be dotted.
        where: The argument that holds it, for errors.

    Raises:
        UserError: The text has another form, the module does not import, or it has no such function.
    """
    module_name, colon, name = reference.partition(":")
    if not (colon and all(part.isidentifier() for part in (*module_name.split("."), *name.split(".")))):
        raise UserError(
            "it does not have the form package.module:name", where=where, fix="For example shop.nets:resnet"
        )
    found = _import(module_name, where)
    for part in name.split("."):
        if not hasattr(found, part):
            raise UserError(f"module {module_name} has no {name}", where=where, fix="Check the name")
        found = getattr(found, part)
    if not callable(found):
        fix = "Name a function or a class"
        raise UserError(f"it is {type(found).__name__} and cannot be called", where=where, fix=fix)
    function: Callable[..., Any] = found
    return function


def _import(name: str, where: Phrase) -> Any:
    """Import a module of the user's."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        fix = "Run smartc in the folder that holds it, set PYTHONPATH, or install it"
        raise UserError(f"there is no module {error.name}", where=where, fix=fix) from error
    except OWN_CODE_FAILURES as error:
        fact = f"importing {name} fails: {type(error).__name__}: {error}".splitlines()[0]
        raise UserError(fact, where=where, fix="Mend the module") from error
