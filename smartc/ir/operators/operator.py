"""What the compiler knows of one ATen operator: a row of the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Vector = Any


class VectorMath(Protocol):
    """What a formula is written with beside the arithmetic of Python: functions of whole vectors."""

    def number(self, value: float) -> Vector:
        """Return a vector of one number."""

    def maximum(self, x: Vector, y: Vector) -> Vector:
        """Return the larger elements of two vectors."""

    def minimum(self, x: Vector, y: Vector) -> Vector:
        """Return the smaller elements of two vectors."""

    def exponential(self, x: Vector) -> Vector:
        """Return e to the power of a vector."""

    def sigmoid(self, x: Vector) -> Vector:
        """Return the logistic function of a vector."""

    def hard_sigmoid(self, x: Vector) -> Vector:
        """Return (x + 3) / 6, between 0 and 1."""

    def tanh(self, x: Vector) -> Vector:
        """Return the hyperbolic tangent of a vector."""


Formula = Callable[[Vector, VectorMath], Vector]

# The families of convolutions: over space, with groups.
CONVOLUTIONS = ("convolution", "transposed_convolution")


@dataclass(frozen=True)
class Weight:
    """Where an operator has its weight, and what the weight's axes are.

    Attributes:
        place: Of the weight among the arguments.
        name: Of that argument.
        input_axis: The axis that meets the input's channels.
        output_axis: The axis of the channels that the operator makes.
        source: The place of what the weight multiplies.
        bias: The place of a bias of one number for each output channel; None where the operator takes none.
    """

    place: int = 1
    name: str = "weight"
    input_axis: int = 1
    output_axis: int = 0
    source: int = 0
    bias: int | None = None

    @property
    def transposed(self) -> bool:
        """Say whether the weight's first axis is the input."""
        return self.input_axis == 0


@dataclass(frozen=True)
class Operator:
    """One ATen operator.

    Attributes:
        name: The short name, as ``smartc.ir.traced_model.operator_name`` gives it.
        family: The kind of its work; ``[ops] supported`` of a target names families.
        rule: How channels travel through it: a key of the channel rules, "" where channels must stay.
        cost: ``matrix`` for work of a MAC array, ``vector`` for a lane operation per element, ``free`` for what moves
            and computes nothing.
        weight: Where its weight is; None where it multiplies by none that may be stored.
        zero_at_zero: Whether an element that is zero stays zero, whatever the other arguments are.
        identity: Whether in evaluation it passes every element on as it is.
        in_training: What it does in training alone: take the batch's ``statistics``, draw ``random`` numbers, or "".
        fused: The output rate of a layer that it is fused into, ``relu`` or ``silu``; "" where it is not fused.
        by_name_only: Whether a target that supports the family need not support it: it must be named by itself.
        formula: Its vector expression, for the kernels of TVM; None where its other arguments choose it, or no
            kernel has it.
        onnx: The operators of ONNX that it becomes, where they are not the same word.
    """

    name: str
    family: str
    rule: str = ""
    cost: Literal["matrix", "vector", "free"] = "vector"
    weight: Weight | None = None
    zero_at_zero: bool = False
    identity: bool = False
    in_training: Literal["statistics", "random", ""] = ""
    fused: Literal["relu", "silu", ""] = ""
    by_name_only: bool = False
    formula: Formula | None = None
    onnx: tuple[str, ...] = ()

    @property
    def is_convolution(self) -> bool:
        """Say whether it slides a kernel, transposed or not."""
        return self.family in CONVOLUTIONS

    @property
    def is_layer(self) -> bool:
        """Say whether it is a convolution or linear layer: it takes an input, a weight and a bias of its outputs."""
        return self.weight is not None and self.weight.bias is not None


def alike(names: str, family: str, rule: str = "", **facts: Any) -> tuple[Operator, ...]:
    """Return the operators of some names between spaces, which share all other facts."""
    return tuple(Operator(name, family, rule, **facts) for name in names.split())
