"""Tell from the graph which outputs are logits, and along which axis their classes lie."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import fx

from smartc.ir.traced_model import Value, argument_of, arguments_of, operator_name, value_of

CONVOLUTIONS = frozenset("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution".split())
PRODUCTS = frozenset("linear addmm matmul mm".split())
# What leaves each axis where it is, and classes comparable with one another.
KEPT = frozenset(
    "dropout feature_dropout contiguous alias detach clone to _to_copy type_as slice upsample_nearest1d "
    "upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d upsample_bicubic2d "
    "upsample_trilinear3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
    "adaptive_avg_pool3d".split()
)
# A constant, per class or for all, changes what the classes are but not that they are classes.
WITH_CONSTANT = frozenset("add sub mul div".split())
RESHAPES = frozenset("view reshape flatten unflatten _unsafe_view".split())


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
    kind, rank = operator_name(node.target), len(_shape(node))
    if node.op != "call_function" or not rank:
        return None
    if kind in CONVOLUTIONS:
        return 1 if rank > 2 else None
    if kind == "log_softmax":
        return int(argument_of(node, 1, "dim")) % rank
    if kind == "linear" or (kind in PRODUCTS and _is_stored(arguments_of(node)[-1])):
        return rank - 1
    return None


def _is_stored(argument: Any) -> bool:
    """Return whether a matrix is a parameter, transposed or not."""
    while isinstance(argument, fx.Node) and operator_name(argument.target) in ("t", "transpose", "permute"):
        argument = argument.args[0]
    return isinstance(argument, fx.Node) and argument.op == "get_attr"


def _source(node: fx.Node) -> fx.Node | None:
    """Return the operand that a moving operator moves."""
    if node.op != "call_function":
        return None
    kind, tensors = operator_name(node.target), [arg for arg in arguments_of(node)[:2] if isinstance(arg, fx.Node)]
    if kind in WITH_CONSTANT:
        moved = [arg for arg in tensors if arg.op != "get_attr"]
        return moved[0] if len(moved) == 1 and _shape(moved[0]) == _shape(node) else None
    known = kind in KEPT or kind in RESHAPES or kind in _MOVES
    return tensors[0] if known and tensors else None


def _moved(node: fx.Node, source: fx.Node, axis: int) -> int | None:
    """Return the place of an operand's axis in the result, None where the operator takes it apart or away."""
    kind, before, after = operator_name(node.target), _shape(source), _shape(node)
    if kind in RESHAPES:
        return _reshaped(axis, before, after)
    if kind in _MOVES:
        return _MOVES[kind](node, axis, len(before))
    # Pooling and resizing are over the axes after the channels.
    over_space = "pool" in kind or "upsample" in kind
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


_MOVES: dict[str, Callable[[fx.Node, int, int], int | None]] = {
    "transpose": _transposed,
    "permute": _permuted,
    "squeeze": _squeezed,
    "unsqueeze": _unsqueezed,
    "select": _selected,
    "mean": _averaged,
}
