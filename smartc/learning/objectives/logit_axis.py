"""Tell from the graph which outputs are logits, and along which axis their classes lie."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import fx

from smartc.ir.traced_model import Value, argument_of, arguments_of, operator_of, value_of

# What leaves each axis where it is, and classes comparable with one another, beside what passes elements on.
KEPT = ("cast", "resizing", "average_pooling")
# A constant, per class or for all, changes what the classes are but not that they are classes.  Not all of arithmetic
# is here: rsub and neg turn the order of the classes round.
WITH_CONSTANT = ("add", "sub", "mul", "div")
_TRANSPOSES = ("matrix_transpose", "transpose", "permute")


def logit_axis(node: fx.Node) -> int | None:
    """Return the axis of an output's classes, counted from 0; None if it is no logits.

    Logits are made by a linear layer, a product with a parameter, a convolution or a log-softmax, with at
    least two classes and an axis before them, and then only moved, reshaped, resized or averaged over space.
    """
    axis = _made(node)
    if axis is None:
        source = _source(node)
        inner = None if source is None else logit_axis(source)
        axis = None if source is None or inner is None else _moved(node, source, inner)
    shape = _shape(node)
    return axis if axis is not None and 0 < axis < len(shape) and shape[axis] >= 2 else None


def _shape(node: fx.Node) -> tuple[int, ...]:
    """Return a node's shape, () if it is not one tensor."""
    value = value_of(node)
    return value.shape if isinstance(value, Value) else ()


def _made(node: fx.Node) -> int | None:
    """Return the axis of the classes that an operator makes."""
    operator, rank = operator_of(node), len(_shape(node))
    if node.op != "call_function" or not rank:
        return None
    # The table lacks what only decompositions leave.
    if operator.is_convolution or operator.name == "convolution":
        return 1 if rank > 2 else None
    if operator.name == "log_softmax":
        return int(argument_of(node, 1, "dim")) % rank
    if operator.is_layer or (operator.weight is not None and _is_stored(arguments_of(node)[-1])):
        return rank - 1
    return None


def _is_stored(argument: Any) -> bool:
    """Return whether a matrix is a parameter, transposed or not."""
    while isinstance(argument, fx.Node) and operator_of(argument).rule in _TRANSPOSES:
        argument = argument.args[0]
    return isinstance(argument, fx.Node) and argument.op == "get_attr"


def _source(node: fx.Node) -> fx.Node | None:
    """Return the operand that a moving operator moves."""
    if node.op != "call_function":
        return None
    operator, tensors = operator_of(node), [arg for arg in arguments_of(node)[:2] if isinstance(arg, fx.Node)]
    if operator.name in WITH_CONSTANT:
        moved = [arg for arg in tensors if arg.op != "get_attr"]
        return moved[0] if len(moved) == 1 and _shape(moved[0]) == _shape(node) else None
    kept = operator.identity or operator.family in KEPT or operator.name == "slice"
    known = kept or operator.rule == "reshape" or operator.name in _MOVES
    return tensors[0] if known and tensors else None


def _moved(node: fx.Node, source: fx.Node, axis: int) -> int | None:
    """Return the place of an operand's axis in the result, None where the operator takes it apart or away."""
    operator, before, after = operator_of(node), _shape(source), _shape(node)
    if operator.rule == "reshape":
        return _reshaped(axis, before, after)
    if operator.name in _MOVES:
        return _MOVES[operator.name](node, axis, len(before))
    # Pooling and resizing are over the axes after the channels.
    over_space = operator.family in ("resizing", "average_pooling")
    return axis if before[: axis + 1] == after[: axis + 1] and (axis == 1 or not over_space) else None


def _reshaped(axis: int, before: tuple[int, ...], after: tuple[int, ...]) -> int | None:
    """Return the axis of the same size with as many elements before and after it."""
    for place, size in enumerate(after):
        if size == before[axis] and math.prod(after[:place]) == math.prod(before[:axis]):
            return place
    return None


def _transposed(node: fx.Node, axis: int, rank: int) -> int:
    """Exchange two axes."""
    left, right = (int(place) % rank for place in arguments_of(node)[1:3])
    return {left: right, right: left}.get(axis, axis)


def _permuted(node: fx.Node, axis: int, rank: int) -> int:
    """Find the axis in the new order."""
    return [int(place) % rank for place in arguments_of(node)[1]].index(axis)


def _squeezed(node: fx.Node, axis: int, rank: int) -> int | None:
    """Take out axes of one element."""
    shape = _shape(arguments_of(node)[0])
    given = arguments_of(node)[1:]
    listed = given[0] if given and isinstance(given[0], (list, tuple)) else given
    places = {int(place) % rank for place in listed} if given else set(range(rank))
    gone = {place for place in places if shape[place] == 1}
    return None if axis in gone else axis - sum(place < axis for place in gone)


def _unsqueezed(node: fx.Node, axis: int, rank: int) -> int:
    """Put in an axis."""
    return axis + (int(arguments_of(node)[1]) % (rank + 1) <= axis)


def _selected(node: fx.Node, axis: int, rank: int) -> int | None:
    """Take one index of an axis."""
    place = int(arguments_of(node)[1]) % rank
    return None if place == axis else axis - (place < axis)


def _averaged(node: fx.Node, axis: int, rank: int) -> int | None:
    """Average over some axes."""
    given = argument_of(node, 1, "dim")
    if given is None:
        return None
    places = {int(place) % rank for place in (given if isinstance(given, (list, tuple)) else [given])}
    kept = bool(argument_of(node, 2, "keepdim", False))
    return None if axis in places else axis - (0 if kept else sum(place < axis for place in places))


# By operator, not by rule: each entry reads the arguments of its own operator.
_MOVES: dict[str, Callable[[fx.Node, int, int], int | None]] = {
    "transpose": _transposed,
    "permute": _permuted,
    "squeeze": _squeezed,
    "unsqueeze": _unsqueezed,
    "select": _selected,
    "mean": _averaged,
}
