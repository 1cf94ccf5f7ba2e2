"""Norms written out as means and variances, powers and roots: what the statistics are applied to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from torch import fx

from smartc.analysis.channels.per_sample import sample_shape
from smartc.ir.traced_model import Value, arguments_of, operator_name, operator_of, value_of

# What may lie between statistics and what they normalise: as many numbers before as after.
_BETWEEN = frozenset("unary joined multiplication division bounding bounding_below squeeze getitem".split())
_DIVIDES = ("rsqrt", "reciprocal")
_SUBTRACTS = ("sub", "rsub")


def normalised_by(statistics: fx.Node) -> tuple[fx.Node, ...]:
    """Return the calls in which statistics meet the numbers that they normalise.

    There are none unless all that is computed of the statistics is met so, and they divide or are subtracted: what a
    mean gates or feeds is no norm.
    """
    seen, outputs, waiting = {statistics}, list[fx.Node](), [statistics]
    centres = False
    while waiting:
        node = waiting.pop()
        for user in node.users:
            if operator_of(user).rule not in _BETWEEN:
                return ()
            centres |= _centres(user, node)
            if _size(user) > _size(node):
                outputs += [] if user in outputs else [user]
            elif user not in seen:
                seen.add(user)
                waiting.append(user)
    return tuple(outputs) if centres else ()


def _centres(call: fx.Node, statistics: fx.Node) -> bool:
    """Return whether a call divides by statistics or subtracts them."""
    name, arguments = operator_name(call.target), arguments_of(call)
    if name == "pow":
        return isinstance(arguments[1], (int, float)) and arguments[1] < 0
    if operator_of(call).rule == "division":
        return arguments[1] is statistics
    return name in _DIVIDES or (name in _SUBTRACTS and statistics in arguments)


def _size(node: fx.Node) -> int:
    """Return how many numbers a call computes for one sample, of several tensors the first's."""
    return next((math.prod(sample_shape(value)) for value in _values(value_of(node))), 0)


def _values(value: Any) -> Iterator[Value]:
    """Yield the tensors that a call computes."""
    for one in value if isinstance(value, (tuple, list)) else (value,):
        if isinstance(one, Value):
            yield one
