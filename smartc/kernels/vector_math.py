"""Activation functions on vectors of floats, as expressions of TIR."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from smartc.ir.operators.table import operator_named

Vector = Any

# Beyond these, exp overflows or is zero in float32.
_EXP_LOW, _EXP_HIGH = -87.33654, 88.37626
# Cephes' polynomial for exp on half a bit around zero: relative error under 1e-7.
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
# Abramowitz and Stegun 7.1.26 is too coarse; this is the rational function that Eigen uses, odd over even.
_ERF_LIMIT = 3.832506856900711
_ERF_ODD: tuple[float, ...] = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
)
_ERF_ODD += (-7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02)
_ERF_EVEN: tuple[float, ...] = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
)
_ERF_EVEN += (-1.42647390514189e-02,)


@dataclass(frozen=True)
class Activation:
    """An activation function that a kernel applies before it stores.

    Attributes:
        kind: A key of CHOSEN, or an operator that has a formula in the table.
        low, high: Bounds of ``clamp``; the slope of ``leaky_relu`` is ``low``.
    """

    kind: str
    low: float = -math.inf
    high: float = math.inf

    def apply(self, x: Vector, lanes: int) -> Vector:
        """Return the function of a vector."""
        if self.kind in CHOSEN:
            return CHOSEN[self.kind](x, self, lanes)
        formula = operator_named(self.kind).formula
        assert formula is not None
        return formula(x, Lanes(lanes))

    @property
    def zero_at_zero(self) -> bool:
        """Say whether the function of zero is zero."""
        if self.kind == "clamp":
            return self.low <= 0 <= self.high
        return self.kind in CHOSEN or operator_named(self.kind).zero_at_zero


@dataclass(frozen=True)
class Lanes:
    """What the formulas of the table are written with, for vectors of some lanes."""

    lanes: int

    def number(self, value: float) -> Vector:
        """Return a vector of one number."""
        return splat(value, self.lanes)

    def maximum(self, x: Vector, y: Vector) -> Vector:
        """Return the larger elements of two vectors."""
        return tirx.max(x, y)

    def minimum(self, x: Vector, y: Vector) -> Vector:
        """Return the smaller elements of two vectors."""
        return tirx.min(x, y)

    def exponential(self, x: Vector) -> Vector:
        """Return e to the power of a vector."""
        return exponential(x, self.lanes)

    def sigmoid(self, x: Vector) -> Vector:
        """Return the logistic function."""
        return _sigmoid(x, self.lanes)

    def hard_sigmoid(self, x: Vector) -> Vector:
        """Return (x + 3) / 6, between 0 and 1."""
        raised = tirx.max(tirx.min(x + self.number(3.0), self.number(6.0)), self.number(0.0))
        return raised * self.number(1 / 6)

    def tanh(self, x: Vector) -> Vector:
        """Return the hyperbolic tangent."""
        return self.number(2.0) * self.sigmoid(x + x) - self.number(1.0)


def splat(value: float, lanes: int) -> Vector:
    """Return a vector of one number."""
    constant = tirx.FloatImm("float32", value)
    return constant if lanes == 1 else tirx.Broadcast(constant, lanes)


def exponential(x: Vector, lanes: int, bind: Callable[[Vector], Vector] = lambda value: value) -> Vector:
    """Return e to the power of a vector.

    ``bind`` names what is used several times: expressions are trees, and those of many exponentials grow too large.
    """
    x = bind(tirx.max(tirx.min(x, splat(_EXP_HIGH, lanes)), splat(_EXP_LOW, lanes)))
    power = bind(tirx.floor(x * splat(math.log2(math.e), lanes) + splat(0.5, lanes)))
    # ln 2 in two parts, so that what is left of x is exact.
    rest = bind(x - power * splat(0.693359375, lanes) - power * splat(-2.12194440e-4, lanes))
    series = _polynomial(rest, _EXP, lanes) * rest * rest + rest + splat(1.0, lanes)
    bits = (tirx.Cast(_integers(lanes), power) + _whole(127, lanes)) << _whole(23, lanes)
    return series * tirx.reinterpret(_floats(lanes), bits)


def error_function(x: Vector, lanes: int) -> Vector:
    """Return the error function of a vector."""
    limit = splat(_ERF_LIMIT, lanes)
    x = tirx.max(tirx.min(x, limit), splat(-_ERF_LIMIT, lanes))
    square = x * x
    return x * _polynomial(square, _ERF_ODD, lanes) / _polynomial(square, _ERF_EVEN, lanes)


def _polynomial(x: Vector, coefficients: tuple[float, ...], lanes: int) -> Vector:
    """Return a polynomial, highest power first."""
    value = splat(coefficients[0], lanes)
    for coefficient in coefficients[1:]:
        value = value * x + splat(coefficient, lanes)
    return value


def _floats(lanes: int) -> str:
    """Return the type of a vector of floats."""
    return "float32" if lanes == 1 else f"float32x{lanes}"


def _integers(lanes: int) -> str:
    """Return the type of a vector of whole numbers."""
    return "int32" if lanes == 1 else f"int32x{lanes}"


def _whole(value: int, lanes: int) -> Vector:
    """Return a vector of one whole number."""
    constant = tirx.IntImm("int32", value)
    return constant if lanes == 1 else tirx.Broadcast(constant, lanes)


def _clamp(x: Vector, activation: Activation, lanes: int) -> Vector:
    """Return the vector, limited to the bounds of the activation."""
    if activation.low > -math.inf:
        x = tirx.max(x, splat(activation.low, lanes))
    return tirx.min(x, splat(activation.high, lanes)) if activation.high < math.inf else x


def _sigmoid(x: Vector, lanes: int) -> Vector:
    """Return the logistic function."""
    return splat(1.0, lanes) / (splat(1.0, lanes) + exponential(splat(0.0, lanes) - x, lanes))


def _gelu(x: Vector, lanes: int) -> Vector:
    """Return the Gaussian error linear unit."""
    inner = error_function(x * splat(math.sqrt(0.5), lanes), lanes)
    return x * splat(0.5, lanes) * (inner + splat(1.0, lanes))


def _gelu_tanh(x: Vector, lanes: int) -> Vector:
    """Return its approximation by the hyperbolic tangent."""
    inner = splat(math.sqrt(2 / math.pi), lanes) * (x + splat(0.044715, lanes) * x * x * x)
    return x * _sigmoid(inner + inner, lanes)


def _leaky(x: Vector, activation: Activation, lanes: int) -> Vector:
    """Return the vector, less steep below zero."""
    return tirx.Select(x > splat(0.0, lanes), x, x * splat(activation.low, lanes))


# What an operator's other arguments choose, so that no formula of the table can say it; but for clamp, zero at zero.
CHOSEN: dict[str, Callable[[Vector, Activation, int], Vector]] = {
    "clamp": _clamp,
    "leaky_relu": _leaky,
    "gelu": lambda x, _, lanes: _gelu(x, lanes),
    "gelu_tanh": lambda x, _, lanes: _gelu_tanh(x, lanes),
}
