"""The registry of channel rules: what operator each serves stands in the table of operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from smartc.ir.operators.table import operator_named

Rule = Callable[..., Any]
R = TypeVar("R", bound=Rule)

RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[R], R]:
    """Register a function as the rule of all operators whose row in the table names it.

    The function takes a Site and the operator's arguments, tensors replaced by their Labels, and
    returns the output's Labels (a tuple of them for several outputs).

    Raises:
        ValueError: There is a rule of the name already.
    """

    def register(function: R) -> R:
        for name in names:
            if name in RULES:
                raise ValueError(f"there are two channel rules {name}")
            RULES[name] = function
        return function

    return register


def rule_of(operator: str) -> Rule | None:
    """Return the rule of an operator by its short name, None where it has none."""
    return RULES.get(operator_named(operator).rule)
