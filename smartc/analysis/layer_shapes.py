"""What one call costs: the sizes that the latency model takes, and the channels they depend on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import fx

from smartc.analysis.channels.channel_groups import FROZEN
from smartc.analysis.channels.labels import IntArray, Labels
from smartc.ir.traced_model import TracedModel, Value, argument_of, arguments_of, operator_of, value_of
from smartc.targets.workload import OpKind


@dataclass(frozen=True, eq=False)
class Shape:
    """The sizes of one layer for a batch of one; ``reads`` and ``writes`` hold a unit per channel.

    Attributes:
        scales: Whether the number of groups falls with the channels; each has ``per_group`` of them.
        weight: The name of its parameter, if it has one.
    """

    kind: OpKind
    reads: IntArray
    writes: IntArray
    pixels: int
    kernel: int = 1
    groups: int = 1
    scales: bool = False
    per_group: int = 1
    input_elements: int = 1
    output_elements: int = 1
    vector_elements: int = 0
    weight: str | None = None


UnitLabels = Mapping[fx.Node, Any]


def layer_shape(model: TracedModel, node: fx.Node, labels: UnitLabels) -> Shape | None:
    """Return the sizes of a call, or None where it costs nothing."""
    operator = operator_of(node)
    if operator.cost == "free" or not isinstance(_first(value_of(node)), Value):
        return None
    return _MATRIX_SHAPES[operator.rule](node, labels) if operator.cost == "matrix" else _vector(node, labels)


def _convolution(node: fx.Node, labels: UnitLabels) -> Shape:
    """Size a convolution; a transposed one multiplies at each input pixel."""
    source, weight = arguments_of(node)[0], arguments_of(node)[1]
    taps = value_of(weight).shape[2:]
    into, out = value_of(source).single, value_of(node).single
    axis = len(out) - len(taps) - 1
    groups = argument_of(node, 6, "groups", 1)
    stored = operator_of(node).weight
    transposed = stored is not None and stored.transposed
    per_group = into[axis] // groups
    # A single channel with its own kernel is what is left of a depthwise convolution.
    depthwise = per_group == 1 and (groups != 1 or out[axis] == 1)
    in_pixels = math.prod(into) // into[axis]
    out_pixels = math.prod(out) // out[axis]
    return Shape(
        kind=OpKind.DEPTHWISE if depthwise else OpKind.MATRIX,
        reads=units_along(labels[source], axis),
        writes=units_along(labels[node], axis),
        pixels=in_pixels if transposed else out_pixels,
        kernel=math.prod(taps),
        groups=groups,
        scales=depthwise,
        per_group=per_group,
        input_elements=in_pixels,
        output_elements=out_pixels,
        weight=_parameter(weight),
    )


def _linear(node: fx.Node, labels: UnitLabels) -> Shape:
    """Size a linear layer: a row per position."""
    source = arguments_of(node)[0]
    out = value_of(node).single
    rows = math.prod(out[:-1])
    return Shape(
        kind=OpKind.MATRIX,
        reads=units_along(labels[source], -1),
        writes=units_along(labels[node], -1),
        pixels=rows,
        input_elements=rows,
        output_elements=rows,
        weight=_parameter(arguments_of(node)[1]),
    )


def _matmul(node: fx.Node, labels: UnitLabels) -> Shape:
    """Size a product of activations: a group per matrix of the batch."""
    left, right = (arg for arg in arguments_of(node) if isinstance(arg, fx.Node))
    rows, inner = value_of(left).single[-2:]
    columns = value_of(right).single[-1]
    batch = math.prod(value_of(node).single[:-2])
    return _product(node, labels, left, (batch, rows, inner, columns), _parameter(right))


def _attention(node: fx.Node, labels: UnitLabels) -> Shape:
    """Size attention as one product of twice the key length per head."""
    query, key = arguments_of(node)[0], arguments_of(node)[1]
    *batch, rows, inner = value_of(query).single
    length = value_of(key).single[-2]
    return _product(node, labels, query, (math.prod(batch), rows, inner, 2 * length), None)


def _product(
    node: fx.Node, labels: UnitLabels, left: Any, sizes: tuple[int, int, int, int], weight: str | None
) -> Shape:
    """Size a batch of matrix products; heads that go take their groups with them."""
    batch, rows, inner, columns = sizes
    heads = _heads(labels[left], batch)
    return Shape(
        kind=OpKind.MATRIX,
        reads=np.repeat(heads, inner),
        writes=np.repeat(heads, columns),
        pixels=rows,
        groups=batch,
        scales=True,
        per_group=inner,
        input_elements=rows,
        output_elements=rows,
        weight=weight,
    )


def _heads(labels: Labels, batch: int) -> IntArray:
    """Return the unit of each matrix of a batch."""
    for axis in range(1, len(labels.shape) - 2):
        units = units_along(labels, axis)
        if len(units) > 1 and batch % len(units) == 0 and (units != FROZEN).any():
            return np.tile(units, batch // len(units))
    return np.full(batch, FROZEN, dtype=np.int64)


def _vector(node: fx.Node, labels: UnitLabels) -> Shape:
    """Size work on the vector unit: a lane operation for each element read or written, whichever is more."""
    value, own = _first(value_of(node)), _first(labels[node])
    if own.factors:
        # All axes that share the labels, or channels that go in a pattern would be miscounted.
        writes = own.factors[0].labels.reshape(-1)
    else:
        writes = units_along(own, min(1, max(len(value.shape) - 1, 0)))
    elements = math.prod(value.single)
    operands = [arg for arg in node.all_input_nodes if isinstance(value_of(arg), Value) and arg.op != "get_attr"]
    read = sum(math.prod(value_of(arg).single) for arg in operands)
    most = max([elements, *(math.prod(value_of(arg).single) for arg in operands)])
    channels = max(len(writes), 1)
    return Shape(
        kind=OpKind.VECTOR,
        reads=writes,
        writes=writes,
        pixels=-(-elements // channels),
        input_elements=-(-read // channels),
        output_elements=-(-elements // channels),
        vector_elements=-(-most // channels),
    )


def units_along(labels: Labels, axis: int) -> IntArray:
    """Return the unit of each index of an axis; FROZEN where no label covers it."""
    size = labels.shape[axis] if labels.shape else 1
    factor = labels.along(axis) if labels.shape else None
    if factor is None:
        return np.full(size, FROZEN, dtype=np.int64)
    place = factor.axes.index(axis % len(labels.shape))
    rows = np.moveaxis(factor.labels, place, 0).reshape(size, -1)
    return rows[:, 0]


def _first(value: Any) -> Any:
    """Return the first of several outputs, or the only one."""
    return value[0] if isinstance(value, (tuple, list)) and value else value


def _parameter(node: Any) -> str | None:
    """Return the name of a parameter that is read directly."""
    return str(node.target) if isinstance(node, fx.Node) and node.op == "get_attr" else None


# By the rule of channels, which knows an operator's arguments, too.
_MATRIX_SHAPES: dict[str, Callable[[fx.Node, UnitLabels], Shape]] = {
    "convolution": _convolution,
    "transposed_convolution": _convolution,
    "product": _matmul,
    "linear": _linear,
    "attention": _attention,
}
