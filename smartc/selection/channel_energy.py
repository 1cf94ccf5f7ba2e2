"""How much each channel is expected to give its readers, without any data.

Means and variances of every channel run through the graph: a batch norm knows those of its output, a
convolution adds up its inputs', an activation integrates over a normal distribution.  A channel's energy
is the variance that it brings to the outputs of the layers that read it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx

from smartc.analysis.channels.channel_groups import FROZEN, ChannelGroups
from smartc.ir.operators.operator import Operator
from smartc.ir.traced_model import TracedModel, Value, argument_of, arguments_of, operator_name, operator_of, value_of

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

# Exact for polynomials up to degree 41, and within a few percent at the kink of a ReLU.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(21)


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and variance of each channel."""

    mean: FloatArray
    variance: FloatArray

    def __len__(self) -> int:
        """Return the number of channels."""
        return len(self.mean)

    @property
    def second(self) -> FloatArray:
        """Return the mean square of each channel."""
        square: FloatArray = self.mean**2 + self.variance
        return square


def unit_energy(model: TracedModel, groups: ChannelGroups) -> FloatArray:
    """Return the energy that each unit is expected to bring to its readers, summed over them.

    A layer that a batch norm follows is measured in the norm's units.  Units that no convolution or
    linear layer reads directly get the squared norm of their producers' weights.
    """
    energy, read = np.zeros(groups.count), np.zeros(groups.count, dtype=bool)
    squares = _Squares(model)
    moments: dict[fx.Node, Any] = {}
    reading = {(axis.name, axis.axis): axis for axis in groups.axes if axis.role == "reads"}
    for node in model.graph.nodes:
        if node.op == "call_function":
            moments[node] = _moments(model, node, moments, squares)
            for source, name in squares.read_by(node):
                axis = reading.get((name, 1))
                if axis is None:
                    continue
                brought = _brought(moments.get(source), squares.of(name), _scale_after(model, node))
                inside = axis.units != FROZEN
                energy += np.bincount(axis.units[inside], brought[inside], minlength=groups.count)
                read[axis.units[inside]] = True
    return energy if read.all() else np.where(read, energy, producer_energy(model, groups))


@dataclass(frozen=True, eq=False)
class _Squares:
    """Squared weights summed over the kernel, shape (out, in per group), each computed once."""

    model: TracedModel
    known: dict[str, FloatArray] = field(default_factory=dict)

    def of(self, name: str) -> FloatArray:
        """Return the squares of one weight."""
        if name not in self.known:
            weight = self.model.tensor(name).detach()
            flat = _numbers(weight.reshape(*weight.shape[:2], -1))
            # float32 is enough for a score; einsum does not write the squares out.
            self.known[name] = np.einsum("oik,oik->oi", flat, flat)
        return self.known[name]

    def plain_weight(self, node: fx.Node) -> str | None:
        """Return the name of the weight that a convolution or linear layer reads directly."""
        if not _is_plain(operator_of(node)):
            return None
        weight = arguments_of(node)[1]
        return str(weight.target) if isinstance(weight, fx.Node) and weight.op == "get_attr" else None

    def read_by(self, node: fx.Node) -> list[tuple[Any, str]]:
        """Return the names of weights (out, in) that a call reads directly, each with what it is multiplied by."""
        name, given = self.plain_weight(node), arguments_of(node)
        if operator_of(node).family != "recurrent":
            return [(given[0], name)] if name else []
        parameters = given[2:] if operator_of(node).rule == "recurrent_step" else given[2]
        stored = [str(one.target) for one in parameters if isinstance(one, fx.Node) and one.op == "get_attr"]
        names = [name for name in stored if self.model.tensor(name).ndim == 2]
        # The first weight is of the input; states are of the layer itself.
        return [(None if place else given[0], name) for place, name in enumerate(names)]


def _brought(source: Moments | None, squares: FloatArray, scale: FloatArray | None) -> FloatArray:
    """Return the variance that each input channel (of each group, summed) brings to a layer's outputs."""
    weights = np.ones(len(squares)) if scale is None or len(scale) != len(squares) else scale
    per_group = squares.shape[1]
    second = source.second if source is not None and len(source) % per_group == 0 else np.ones(per_group)
    groups = len(second) // per_group if len(squares) % (len(second) // per_group) == 0 else 1
    columns = [
        part @ rows
        for part, rows in zip(np.split(weights.astype(squares.dtype), groups), np.split(squares, groups), strict=True)
    ]
    brought: FloatArray = (np.stack(columns) * second[: groups * per_group].reshape(groups, per_group)).sum(axis=0)
    return brought


def _moments(model: TracedModel, node: fx.Node, moments: dict[fx.Node, Any], squares: _Squares) -> Any:
    """Return the moments of a call's output, None where nothing is known."""
    operator = operator_of(node)
    sources = [moments.get(arg) for arg in node.all_input_nodes if arg.op == "call_function"]
    if operator.name in _NORMS:
        return _of_norm(model, node)
    if _is_plain(operator):
        name = squares.plain_weight(node)
        return None if name is None else _of_layer(model, node, sources, squares.of(name))
    if operator.rule == "cat":
        parts = [source for source in sources if isinstance(source, Moments)]
        whole = len(parts) == len(arguments_of(node)[0]) == len(sources)
        return (
            Moments(*(np.concatenate(side) for side in zip(*(_sides(p) for p in parts), strict=True)))
            if whole
            else None
        )
    if operator.family == "recurrent":
        return None
    known = [source for source in sources if isinstance(source, Moments)]
    if not known or len(known) < len(sources):
        return _picked(node, sources)
    if operator.family == "activation" and operator.rule == "unary":
        function: Any = node.target
        return _through(lambda x: function(x, *arguments_of(node)[1:]), known[0])
    return _COMBINED.get(operator.name, _parts if operator.rule == "split" else _passed)(model, node, known)


def _is_plain(operator: Operator) -> bool:
    """Return whether a layer's weight has its outputs first: a convolution or linear layer, not transposed."""
    return operator.is_layer and operator.weight is not None and not operator.weight.transposed


def _of_norm(model: TracedModel, node: fx.Node) -> Moments:
    """Return what a norm's shift and scale say about its output; 0 and 1 where they are not known."""
    first = _NORMS[operator_name(node.target)]
    gamma, beta = (_constant(model, arg) for arg in arguments_of(node)[first : first + 2])
    channels = value_of(node).shape[1]
    mean = np.zeros(channels) if beta is None else beta
    return Moments(mean, np.ones(channels) if gamma is None else gamma**2)


def _constant(model: TracedModel, argument: Any) -> FloatArray | None:
    """Return the value of a parameter that is read directly."""
    if not isinstance(argument, fx.Node) or argument.op != "get_attr":
        return None
    value: FloatArray = model.tensor(str(argument.target)).detach().double().numpy()
    return value


def _of_layer(model: TracedModel, node: fx.Node, sources: list[Any], squares: FloatArray) -> Moments:
    """Return the bias and the summed variances; inputs of which nothing is known have a mean square of 1."""
    source = next((one for one in sources if isinstance(one, Moments)), None)
    per_group = squares.shape[1]
    second = source.second if source is not None and len(source) % per_group == 0 else np.ones(per_group)
    groups = len(second) // per_group
    if groups > 1 and len(squares) % groups == 0:
        rows = np.einsum("goi,gi->go", squares.reshape(groups, -1, per_group), second.reshape(groups, per_group))
        variance = rows.reshape(-1)
    else:
        variance = squares @ second[:per_group].astype(squares.dtype)
    bias = _constant(model, argument_of(node, 2, "bias"))
    mean = np.zeros(len(variance)) if bias is None else bias
    return Moments(mean, variance)


def _through(function: Callable[[torch.Tensor], torch.Tensor], source: Moments) -> Moments:
    """Return the moments of a function of normal variables."""
    points = source.mean[:, None] + np.sqrt(np.maximum(source.variance, 0.0))[:, None] * _NODES
    values = function(torch.from_numpy(points)).numpy()
    weights = _WEIGHTS / _WEIGHTS.sum()
    mean = values @ weights
    return Moments(mean, np.maximum(values**2 @ weights - mean**2, 0.0))


def _passed(model: TracedModel, node: fx.Node, sources: list[Moments]) -> Moments | None:
    """Return the first operand's moments, repeated where channels are spread over a longer axis."""
    value = value_of(node)
    first = sources[0]
    if not isinstance(value, Value) or len(first) in value.shape:
        return first
    spread = next((size for size in reversed(value.shape) if size % len(first) == 0 and size > len(first)), 0)
    return Moments(*(np.repeat(side, spread // len(first)) for side in _sides(first))) if spread else None


def _sum(model: TracedModel, node: fx.Node, sources: list[Moments]) -> Moments:
    """Add means and variances of operands with as many channels."""
    same = [source for source in sources if len(source) == len(sources[0])]
    return Moments(*(np.sum(side, axis=0) for side in zip(*(_sides(one) for one in same), strict=True)))


def _product(model: TracedModel, node: fx.Node, sources: list[Moments]) -> Moments:
    """Multiply means and mean squares of independent operands."""
    same = [source for source in sources if len(source) == len(sources[0])]
    mean = np.prod([one.mean for one in same], axis=0)
    return Moments(mean, np.maximum(np.prod([one.second for one in same], axis=0) - mean**2, 0.0))


def _picked(node: fx.Node, sources: list[Any]) -> Moments | None:
    """Return one part of a split, whose parts are kept as a list."""
    if operator_name(node.target) == "getitem" and sources and isinstance(sources[0], list):
        part: Moments = sources[0][arguments_of(node)[1]]
        return part
    return None


def _parts(model: TracedModel, node: fx.Node, sources: list[Moments]) -> Any:
    """Return the moments of each part of a split along the channels."""
    values, dim = value_of(node), argument_of(node, 2, "dim", 0)
    sizes = [value.shape[dim] for value in values]
    if sum(sizes) != len(sources[0]):
        return [sources[0]] * len(sizes)
    bounds = np.cumsum(sizes)[:-1]
    return [Moments(*pair) for pair in zip(*(np.split(side, bounds) for side in _sides(sources[0])), strict=True)]


def _sides(moments: Moments) -> tuple[FloatArray, FloatArray]:
    """Return mean and variance."""
    return moments.mean, moments.variance


def _scale_after(model: TracedModel, node: fx.Node) -> FloatArray | None:
    """Return the squared scale per output channel of a batch norm that alone reads a layer."""
    norm = next(iter(node.users)) if len(node.users) == 1 else None
    if norm is None or operator_name(norm.target) != "batch_norm" or arguments_of(norm)[5] is not False:
        return None
    gamma, _, _, variance = (_constant(model, arg) for arg in arguments_of(norm)[1:5])
    if variance is None:
        return None
    scale: FloatArray = 1 / (variance + arguments_of(norm)[7])
    return scale if gamma is None else scale * gamma**2


def producer_energy(model: TracedModel, groups: ChannelGroups) -> FloatArray:
    """Return each unit's sum of squared weights over all of its producers."""
    energy = np.zeros(groups.count)
    for axis in groups.axes:
        if axis.role == "owns":
            weight = model.tensor(axis.name).detach()
            rows = _numbers(weight.movedim(axis.axis, 0).reshape(weight.shape[axis.axis], -1))
            squares, inside = np.einsum("ok,ok->o", rows, rows), axis.units != FROZEN
            energy += np.bincount(axis.units[inside], squares[inside], minlength=groups.count)
    return energy


def _numbers(weight: torch.Tensor) -> np.ndarray[Any, Any]:
    """Return a tensor as an array; NumPy has no bfloat16, and squares overflow float16."""
    wide = weight.float() if weight.dtype in (torch.float16, torch.bfloat16) else weight
    numbers: np.ndarray[Any, Any] = wide.numpy()
    return numbers


# Norms of channels, and the place of their scale among the arguments; the shift follows.
_NORMS = {"batch_norm": 1, "instance_norm": 1, "group_norm": 2}
# The two whose moments have a formula; all else passes those of its first operand on.
_COMBINED: dict[str, Callable[[TracedModel, fx.Node, list[Moments]], Any]] = {
    "add": _sum,
    "mul": _product,
}
