"""The rules of the walk: which kernels compute an operator, by the operator's name."""

from __future__ import annotations

from collections.abc import Callable

from torch import fx

from smartc.kernels.inference.network import Network

# A rule puts the node's value into the network, or returns False: TVM's own lowering then takes the node.
Rule = Callable[[Network, fx.Node], bool]

RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for operators, by their short names; a second one for the same is an error."""

    def register(function: Rule) -> Rule:
        for name in names:
            if name in RULES:
                raise ValueError(f"{name} has a rule already")
            RULES[name] = function
        return function

    return register
