"""The sizes of recurrent layers: all gates, all steps, every layer and direction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import fx

from smartc.analysis.channels.channel_groups import FROZEN
from smartc.analysis.channels.labels import IntArray
from smartc.analysis.shape import Known, Shape, parameter_name, sizes_of, units_along
from smartc.ir.traced_model import arguments_of, operator_name
from smartc.targets.workload import OpKind

# Lane operations for a hidden unit and step: each gate adds two products and has an activation, then the state follows.
# LSTM: f * c + i * g and o * tanh(c).  GRU: r * h within its gate, and (1 - z) * n + z * h.
_OPERATIONS = {"lstm": 4 * 2 + 3 + 2, "gru": 3 * 2 + 1 + 4, "rnn_tanh": 2, "rnn_relu": 2}
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
        yield replace(self._product(weights[0], reads, at_once=True), part="input")
        hidden = _frozen(sizes_of(weights[1])[1])
        yield replace(self._product(weights[1], hidden, at_once=False), part="recurrent")
        cells = sizes_of(weights[2])[1] if len(weights) > 2 else len(hidden)
        yield replace(self._cell(cells, sizes_of(weights[1])[0]), part="cell")
        for weight in weights[2:]:
            yield replace(self._product(weight, _frozen(cells), at_once=False), part="projection")

    def _product(self, weight: fx.Node, reads: IntArray, *, at_once: bool) -> Shape:
        """Size the product by a weight, for all steps at once or step by step."""
        every = self.steps * self.sequences
        return Shape(
            kind=OpKind.MATRIX,
            reads=reads,
            writes=_frozen(sizes_of(weight)[0]),
            pixels=every if at_once else self.sequences,
            repeats=1 if at_once else self.steps,
            input_elements=every,
            output_elements=every,
            operand=self.known.operand(weight),
            constants=self.known.constants(weight),
            weight=parameter_name(weight),
            op="linear",
        )

    def _cell(self, cells: int, gates: int) -> Shape:
        """Size what turns the sums of all gates into the next state."""
        every = self.steps * self.sequences
        return Shape(
            kind=OpKind.VECTOR,
            reads=_frozen(cells),
            writes=_frozen(cells),
            pixels=every,
            input_elements=2 * every * gates // cells,
            output_elements=every,
            vector_elements=_OPERATIONS[self.name] * every,
            op="tanh",
        )


def recurrent_shapes(known: Known, node: fx.Node) -> tuple[Shape, ...]:
    """Return the sizes of an LSTM, a GRU or a plain recurrent layer; none where its sequences are packed."""
    arguments, name = arguments_of(node), operator_name(node.target)
    if name.endswith(_CELL):
        return _single_step(known, name.removesuffix(_CELL), *arguments[:1], *arguments[2:4])
    if len(arguments) < 9:
        return ()
    source, parameters, layers, both_ways, batch_first = (arguments[place] for place in (0, 2, 4, 7, 8))
    sizes = sizes_of(source)
    steps, sequences = (sizes[1], sizes[0]) if batch_first else sizes[:2]
    whole = _Recurrence(known, name, steps, sequences)
    weights = [weight for weight in parameters if len(sizes_of(weight)) == 2]
    directions = ("", "_reverse") if both_ways else ("",)
    each = len(weights) // (layers * len(directions))
    parts: list[Shape] = []
    for place in range(layers * len(directions)):
        own = weights[place * each : (place + 1) * each]
        layer, way = divmod(place, len(directions))
        # What a layer below hands on has no labels: nothing of it can go.
        reads = units_along(known.labels[source], -1) if layer == 0 else _frozen(sizes_of(own[0])[1])
        found = whole.layer(own, reads)
        parts += [replace(shape, part=f"l{layer}{directions[way]}.{shape.part}") for shape in found]
    return tuple(parts)


def _single_step(known: Known, name: str, source: fx.Node, *weights: fx.Node) -> tuple[Shape, ...]:
    """Return the sizes of one step that is called by itself."""
    step = _Recurrence(known, name, 1, math.prod(sizes_of(source)[:-1]))
    return tuple(step.layer(weights, units_along(known.labels[source], -1)))


def _frozen(size: int) -> IntArray:
    """Return as many units that stay."""
    return np.full(size, FROZEN, dtype=np.int64)
