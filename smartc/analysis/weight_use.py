"""How calls multiply by stored weights on a MAC array."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from smartc.ir.traced_model import TracedModel, argument_of, operator_of


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
    operator = operator_of(node)
    known = operator.weight
    weight = None if known is None else argument_of(node, known.place, known.name)
    if known is None or not isinstance(weight, fx.Node) or weight.op != "get_attr":
        return None
    name, shape = str(weight.target), model.tensor(str(weight.target)).shape
    if not operator.is_convolution:
        return WeightUse(name, 1, known.transposed) if len(shape) == 2 else None
    groups = argument_of(node, 6, "groups", 1)
    inner = shape[0] // groups if known.transposed else shape[1]
    return None if inner == 1 and groups > 1 else WeightUse(name, groups, known.transposed)
