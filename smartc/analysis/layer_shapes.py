"""What one call costs: the sizes that the latency model takes, and the channels they depend on."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import fx

from smartc.analysis.product_shapes import attention_shapes, product_shapes
from smartc.analysis.recurrent_shapes import recurrent_shapes
from smartc.analysis.shape import Known, Shape, first_of, parameter_name, sizes_of, units_along
from smartc.analysis.vector_shapes import vector_shape
from smartc.ir.traced_model import Value, argument_of, arguments_of, operator_of, value_of
from smartc.targets.workload import OpKind


def layer_shapes(known: Known, node: fx.Node) -> tuple[Shape, ...]:
    """Return the sizes of the layers that a call is, in the order in which they run; none where it costs nothing."""
    if _is_free(node) or not isinstance(first_of(value_of(node)), Value):
        return ()
    sizes = _MATRIX_SHAPES.get(operator_of(node).family)
    # An einsum of one operand multiplies nothing.
    if sizes is None or (operator_of(node).rule == "einsum" and len(arguments_of(node)[1]) == 1):
        return (vector_shape(known, node),)
    return sizes(known, node)


def _is_free(node: fx.Node) -> bool:
    """Say whether a call moves nothing: a view, a cast to the type that it has, a slice without gaps."""
    operator = operator_of(node)
    if operator.family == "cast":
        return bool(value_of(arguments_of(node)[0]).dtype == value_of(node).dtype)
    if operator.rule == "slice":
        return bool(argument_of(node, 4, "step", 1) == 1)
    return operator.cost == "free"


def _convolution(known: Known, node: fx.Node) -> tuple[Shape, ...]:
    """Size a convolution; a transposed one multiplies at each input pixel."""
    source, weight = arguments_of(node)[0], arguments_of(node)[1]
    taps = value_of(weight).shape[2:]
    into, out = sizes_of(source), sizes_of(node)
    axis = len(out) - len(taps) - 1
    stored = operator_of(node).weight
    transposed = stored is not None and stored.transposed
    groups = argument_of(node, 6, "groups", 1)
    if isinstance(groups, fx.Node):  # a number that the forward computes, such as a group for each sample and channel
        groups = (out if transposed else into)[axis] // value_of(weight).shape[1]
    per_group = into[axis] // groups
    # A single channel with its own kernel is what is left of a depthwise convolution.
    depthwise = per_group == 1 and (groups != 1 or out[axis] == 1)
    in_pixels = math.prod(into) // into[axis]
    out_pixels = math.prod(out) // out[axis]
    shape = Shape(
        kind=OpKind.DEPTHWISE if depthwise else OpKind.MATRIX,
        # Channels that are merged with the batch are those of one sample.
        reads=units_along(known.labels[source], axis)[: into[axis]],
        writes=units_along(known.labels[node], axis)[: out[axis]],
        pixels=in_pixels if transposed else out_pixels,
        kernel=math.prod(taps),
        groups=groups,
        scales=depthwise,
        per_group=per_group,
        input_elements=in_pixels,
        output_elements=out_pixels,
        operand=known.operand(weight),
        constants=known.constants(weight),
        weight=parameter_name(weight),
    )
    return (shape,)


def _linear(known: Known, node: fx.Node) -> tuple[Shape, ...]:
    """Size a linear layer: a row per position."""
    source, weight = arguments_of(node)[0], arguments_of(node)[1]
    rows = math.prod(sizes_of(node)[:-1])
    shape = Shape(
        kind=OpKind.MATRIX,
        reads=units_along(known.labels[source], -1),
        writes=units_along(known.labels[node], -1),
        pixels=rows,
        input_elements=rows,
        output_elements=rows,
        operand=known.operand(weight),
        constants=known.constants(weight),
        weight=parameter_name(weight),
    )
    return (shape,)


# By family of the table of operators.
_MATRIX_SHAPES: dict[str, Callable[[Known, fx.Node], tuple[Shape, ...]]] = {
    "convolution": _convolution,
    "transposed_convolution": _convolution,
    "linear": _linear,
    "product": product_shapes,
    "attention": attention_shapes,
    "recurrent": recurrent_shapes,
}
