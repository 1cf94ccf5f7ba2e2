"""The sizes of work on the vector unit: a lane operation for each element that is read or written, or for each tap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import fx

from smartc.analysis.shape import Known, Shape, first_of, sizes_of, units_along
from smartc.ir.traced_model import Value, argument_of, arguments_of, operator_name, operator_of, value_of
from smartc.targets.workload import Operand, OpKind

# Elements of the input that each element of a resized output is made of.
_TAPS = {"nearest": 1, "linear": 2, "bilinear": 4, "trilinear": 8, "bicubic": 16}
_SCALE_AND_SHIFT = 2
# What moves whole channels when its index is a constant.
_GATHERS = ("index_select", "index")


def vector_shape(known: Known, node: fx.Node) -> Shape:
    """Return the sizes of work on the vector unit; constants that stand beside activations are stored with them."""
    value, own = value_of(node), first_of(known.labels[node])
    value = first_of(value)
    if own.factors:
        # All axes that share the labels, or channels that go in a pattern would be miscounted.
        writes = own.factors[0].labels.reshape(-1)
    else:
        writes = units_along(own, min(1, max(len(value.shape) - 1, 0)))
    elements, channels = math.prod(value.single), max(len(writes), 1)
    operands = [arg for arg in node.all_input_nodes if isinstance(value_of(arg), Value)]
    read = [math.prod(sizes_of(arg)) for arg in operands if arg in known.live]
    constants = tuple(arg for arg in known.constants(*operands) if _holds_weights(arg, channels))
    if operator_of(node).family == "batch_norm":
        # A scale and a shift are left of its statistics and its parameters.
        constants = constants[:_SCALE_AND_SHIFT]
    stored = sum(math.prod(sizes_of(constant)) for constant in constants)
    return Shape(
        kind=OpKind.VECTOR,
        reads=writes,
        writes=writes,
        pixels=-(-elements // channels),
        input_elements=-(-sum(read) // channels),
        output_elements=-(-elements // channels),
        vector_elements=-(-max(_operations(node, elements), *read, 0) // channels),
        stored_elements=stored // channels,
        operand=Operand.WEIGHT if constants else Operand.ACTIVATION,
        constants=constants,
        op=_work(known, node),
    )


def _holds_weights(constant: fx.Node, channels: int) -> bool:
    """Say whether a constant is numbers for each channel, and not an index or a single number."""
    elements = math.prod(sizes_of(constant))
    return bool(value_of(constant).dtype.is_floating_point) and elements >= channels and elements % channels == 0


def _work(known: Known, node: fx.Node) -> str:
    """Return the operator whose work a call is, "" for its own: a gather by a constant index only moves channels."""
    if operator_name(node.target) not in _GATHERS:
        return ""
    indices = [arg for arg in node.all_input_nodes if arg is not arguments_of(node)[0]]
    return "permute" if all(known.is_stored(index) for index in indices) else ""


def _operations(node: fx.Node, elements: int) -> int:
    """Return the lane operations that make a number of output elements."""
    operator, source = operator_of(node), arguments_of(node)[0] if arguments_of(node) else None
    if operator.family == "resizing":
        words = operator.name.removeprefix("_upsample_").removeprefix("upsample_")
        return elements * next(taps for word, taps in _TAPS.items() if words.startswith(word))
    if operator.family == "sampling":
        return elements * 2 ** (len(sizes_of(node)) - 2)
    if operator.family in ("max_pooling", "average_pooling") and isinstance(source, fx.Node):
        return _window_elements(node, operator.name, sizes_of(source), elements)
    return elements


def _window_elements(node: fx.Node, name: str, source: Sequence[int], elements: int) -> int:
    """Return the elements that all windows of a pool have together."""
    rank = int(name.partition("d_with")[0].rstrip("d")[-1])
    if not name.startswith("adaptive"):
        kernel: Any = argument_of(node, 1, "kernel_size")
        return elements * math.prod(np.broadcast_to(np.array(kernel), (rank,)).tolist())
    made = sizes_of(node)
    lengths = zip(source[-rank:], made[-rank:], strict=True)
    return math.prod(made[:-rank]) * math.prod(_adaptive(size, count) for size, count in lengths)


def _adaptive(size: int, count: int) -> int:
    """Return the elements of all windows along one axis: the i-th reaches from i / count to (i + 1) / count of it."""
    return sum(-(-(place + 1) * size // count) - place * size // count for place in range(count))
