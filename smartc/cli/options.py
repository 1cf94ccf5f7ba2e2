"""The options of the command line that stand for arguments in Python."""

from __future__ import annotations

import logging

from smartc.core.errors import Argument

# The arguments whose options have other names.
_OPTIONS = {"backends": "--backend", "evaluate": "--eval", "factory": "--model", "input_shapes": "--input"}


def as_option(argument: Argument) -> str:
    """Return an argument as the command line has it: ``--granularity 2:4``, or ``--resume`` without a value."""
    option = _OPTIONS.get(argument.name, f"--{argument.name.replace('_', '-')}")
    if argument.value is ... or argument.value is True:
        return option
    value = ",".join(argument.value) if isinstance(argument.value, tuple) else argument.value
    return f"{option} {value}"


def logged_as_options(record: logging.LogRecord) -> bool:
    """Spell the arguments that a record of a log speaks of, and return true: it is to be shown."""
    if isinstance(record.args, tuple):
        record.args = tuple(as_option(part) if isinstance(part, Argument) else part for part in record.args)
    return True
