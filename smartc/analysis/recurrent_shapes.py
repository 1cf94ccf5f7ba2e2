"""The sizes of recurrent layers: all gates and all steps of one layer in one direction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import fx

from smartc.analysis.channels.labels import IntArray
from smartc.analysis.shape import Known, Shape, parameter_name, sizes_of, units_along
from smartc.ir.traced_model import arguments_of, operator_name
from smartc.targets.workload import OpKind

# Lane operations for a hidden unit and step: each gate adds two products and has an activation, then the state follows.
# LSTM: f * c + i * g and o * tanh(c).  GRU: r * h within its gate, and (1 - z) * n + z * h.
_OPERATIONS = {"lstm": 4 * 2 + 3 + 2, "gru": 3 * 2 + 1 + 4, "rnn_tanh": 2, "rnn_relu": 2}
_GATES = {"lstm": 4, "gru": 3}
_CELL = "_cell"


@dataclass(frozen=True, eq=False)
class _Recurrence:
    """A recurrent layer: ``steps`` one after another, each for some ``sequences`` at once."""

    known: Known
    name: str
    steps: int
    sequences: int

    def layer(self, weights: Sequence[fx.Node], reads: IntArray) -> Iterator[Shape]:
        """Yield the sizes of one layer in one direction.

        Args:
            weights: Of the input, of the hidden state and, where it is projected, of that; (out, in) each.
            reads: The units of the layer's input.
        """
        into, recurrent, *projections = weights
        yield replace(self._product(into, reads, at_once=True), part="input")
        hidden = self._units(recurrent, 1)
        yield replace(self._product(recurrent, hidden, at_once=False), part="recurrent")
        gates = self._units(recurrent, 0)
        cells = gates[: len(gates) // _GATES.get(self.name, 1)]
        yield replace(self._cell(cells, len(gates)), part="cell")
        for weight in projections:
            yield replace(self._product(weight, cells, at_once=False), part="projection")

    def _units(self, weight: fx.Node, axis: int) -> IntArray:
        """Return the units along an axis of a weight."""
        return units_along(self.known.labels[weight], axis)

    def _product(self, weight: fx.Node, reads: IntArray, *, at_once: bool) -> Shape:
        """Size the product by a weight, for all steps at once or step by step."""
        every = self.steps * self.sequences
        return Shape(
            kind=OpKind.MATRIX,
            reads=reads,
            writes=self._units(weight, 0),
            pixels=every if at_once else self.sequences,
            repeats=1 if at_once else self.steps,
            input_elements=every,
            output_elements=every,
            operand=self.known.operand(weight),
            constants=self.known.constants(weight),
            weight=parameter_name(weight),
            op="linear",
        )

    def _cell(self, cells: IntArray, gates: int) -> Shape:
        """Size what turns the sums of all gates into the next state."""
        every = self.steps * self.sequences
        return Shape(
            kind=OpKind.VECTOR,
            reads=cells,
            writes=cells,
            pixels=every,
            input_elements=2 * every * gates // len(cells),
            output_elements=every,
            vector_elements=_OPERATIONS[self.name] * every,
            op="tanh",
        )


def recurrent_shapes(known: Known, node: fx.Node) -> tuple[Shape, ...]:
    """Return the sizes of an LSTM, a GRU or a plain recurrent layer; none where its sequences are packed."""
    arguments, name = arguments_of(node), operator_name(node.target)
    if name.endswith(_CELL):
        source, weights = arguments[0], arguments[2:4]
        step = _Recurrence(known, name.removesuffix(_CELL), 1, math.prod(sizes_of(source)[:-1]))
        return tuple(step.layer(weights, units_along(known.labels[source], -1)))
    if node.target._overloadname != "input":  # type: ignore[union-attr]
        return ()
    source, parameters, batch_first = (arguments[place] for place in (0, 2, 8))
    sizes = sizes_of(source)
    steps, sequences = (sizes[1], sizes[0]) if batch_first else sizes[:2]
    matrices = [weight for weight in parameters if len(sizes_of(weight)) == 2]
    parts = _Recurrence(known, name, steps, sequences).layer(matrices, units_along(known.labels[source], -1))
    return tuple(replace(shape, part=f"{_place(matrices[0])}{shape.part}") for shape in parts)


def _place(weight: fx.Node) -> str:
    """Return the layer and direction that a weight of the input is named after, such as ``l0_reverse.``, or ""."""
    _, found, place = (parameter_name(weight) or "").rpartition("weight_ih_")
    return f"{place}." if found else ""
