"""The rules of the walk: which kernels compute an operator.

A kernel is written for what it computes, with the arguments of that operator in mind, so most rules name the operators
that they know.  Where a rule serves all that are alike in the table of operators, it asks the table.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import fx

from smartc.ir.operators.operator import Operator
from smartc.ir.operators.table import operator_named
from smartc.kernels.inference.network import Network

# A rule puts the node's value into the network, or returns False: TVM's own lowering then takes the node.
Rule = Callable[[Network, fx.Node], bool]
Serves = Callable[[Operator], bool]

RULES: dict[str, Rule] = {}
_BY_FACTS: list[tuple[Serves, Rule]] = []


def rule(*names: str, serves: Serves | None = None) -> Callable[[Rule], Rule]:
    """Register a rule for operators, by their short names and by what the table knows of them.

    Raises:
        ValueError: A name has a rule already.
    """

    def register(function: Rule) -> Rule:
        for name in names:
            if name in RULES:
                raise ValueError(f"{name} has a rule already")
            RULES[name] = function
        if serves is not None:
            _BY_FACTS.append((serves, function))
        return function

    return register


def rule_of(name: str) -> Rule | None:
    """Return the rule of an operator: its own, or one that serves operators like it; None where there is none."""
    operator = operator_named(name)
    return RULES.get(name) or next((function for serves, function in _BY_FACTS if serves(operator)), None)
