"""Find what follows a layer that its kernel can do before it stores: one sum and one activation function."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from smartc.ir.traced_model import argument_of, arguments_of, operator_name, operator_of
from smartc.kernels.inference.network import Held, Network, sole_user
from smartc.kernels.inference.windows import shape_of
from smartc.kernels.vector_math import Activation


@dataclass(frozen=True)
class Fused:
    """A layer with what follows it.

    Attributes:
        first: The layer.
        last: The node whose value the kernel computes.
        residual: The node that is added, or None.
        activation: Applied after that, or None.
    """

    first: fx.Node
    last: fx.Node
    residual: fx.Node | None = None
    activation: Activation | None = None

    def put(self, network: Network, value: Held) -> None:
        """Give the last node its value; nothing reads those before it."""
        network.values[self.last] = value
        node: fx.Node | None = self.first
        while node is not None and node is not self.last:
            network.absorbed.add(node)
            node = sole_user(node)


def fused(network: Network, node: fx.Node) -> Fused:
    """Return a layer with the sum and the activation that alone read it."""
    residual, last = None, node
    user = sole_user(node)
    if user is not None and operator_name(user.target) == "add":
        other = _other_term(network, user, node)
        if other is not None:
            residual, last = other, user
    user = sole_user(last)
    activation = activation_of(user) if user is not None else None
    if user is not None and activation is not None and arguments_of(user)[0] is last:
        return Fused(node, user, residual, activation)
    return Fused(node, last, residual, None)


def _other_term(network: Network, total: fx.Node, node: fx.Node) -> fx.Node | None:
    """Return the other term of a sum, where it is computed already and of the same shape."""
    terms = arguments_of(total)[:2]
    other = terms[1] if terms[0] is node else terms[0]
    if not isinstance(other, fx.Node) or other is node or total.kwargs.get("alpha", 1) != 1:
        return None
    ready = network.values.get(other)
    known = ready is not None and getattr(ready, "dtype", "") == "float32"
    return other if known and shape_of(other) == shape_of(node) else None


def activation_of(node: fx.Node) -> Activation | None:
    """Return the activation function that a node computes, None where it is none that a kernel has."""
    operator = operator_of(node)
    kind = operator.name
    if operator.formula is not None:
        return Activation(kind)
    if kind in ("hardtanh", "clamp"):
        default = (-1.0, 1.0) if kind == "hardtanh" else (None, None)
        low, high = (argument_of(node, place, name, value) for place, name, value in _bounds(kind, default))
        if any(isinstance(bound, fx.Node) for bound in (low, high)):
            return None
        return Activation(
            "clamp", float("-inf") if low is None else float(low), float("inf") if high is None else float(high)
        )
    if kind == "gelu":
        return Activation("gelu_tanh" if argument_of(node, 1, "approximate", "none") == "tanh" else "gelu")
    if kind == "leaky_relu":
        return Activation("leaky_relu", float(argument_of(node, 1, "negative_slope", 0.01)))
    return None


def _bounds(kind: str, default: tuple[float | None, float | None]) -> list[tuple[int, str, float | None]]:
    """Return place, name and default of both bounds."""
    names = ("min_val", "max_val") if kind == "hardtanh" else ("min", "max")
    return [(1, names[0], default[0]), (2, names[1], default[1])]
