"""How calls multiply by stored weights on a MAC array."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from smartc.ir.traced_model import TracedModel, argument_of, operator_name

CONVOLUTIONS = frozenset("conv1d conv2d conv3d".split())
TRANSPOSED = frozenset("conv_transpose1d conv_transpose2d conv_transpose3d".split())
# The place of the argument that is an (in, out) matrix.
PRODUCTS = {"matmul": 1, "mm": 1, "addmm": 2}


@dataclass(frozen=True)
class WeightUse:
    """How a call multiplies by a stored weight.

    Attributes:
        name: The weight's name.
        groups: Of the convolution.
        transposed: Whether the weight's first axis is the input.
    """

    name: str
    groups: int
    transposed: bool


def weight_use(model: TracedModel, node: fx.Node) -> WeightUse | None:
    """Return which stored weight a call multiplies by on a MAC array; None for depthwise and other calls."""
    operator = operator_name(node.target)
    if operator in PRODUCTS:
        weight = argument_of(node, PRODUCTS[operator], "mat2")
    elif operator in CONVOLUTIONS | TRANSPOSED | {"linear"}:
        weight = argument_of(node, 1, "weight")
    else:
        return None
    if not isinstance(weight, fx.Node) or weight.op != "get_attr":
        return None
    name, shape = str(weight.target), model.tensor(str(weight.target)).shape
    if operator in PRODUCTS or operator == "linear":
        return WeightUse(name, 1, operator in PRODUCTS) if len(shape) == 2 else None
    groups = argument_of(node, 6, "groups", 1)
    inner = shape[0] // groups if operator in TRANSPOSED else shape[1]
    return None if inner == 1 and groups > 1 else WeightUse(name, groups, operator in TRANSPOSED)
