"""The registry of channel rules: one per base operator, serving all of its overloads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Rule = Callable[..., Any]
R = TypeVar("R", bound=Rule)

RULES: dict[str, Rule] = {}


def rule(*operators: str) -> Callable[[R], R]:
    """Register a function as the rule of base operators such as ``conv2d``.

    The function takes a Site and the operator's arguments, tensors replaced by their Labels, and
    returns the output's Labels (a tuple of them for several outputs).

    Raises:
        ValueError: An operator has a rule already.
    """

    def register(function: R) -> R:
        for operator in operators:
            if operator in RULES:
                raise ValueError(f"{operator} has two channel rules")
            RULES[operator] = function
        return function

    return register
