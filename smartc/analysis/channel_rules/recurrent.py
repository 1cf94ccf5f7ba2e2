"""Recurrent layers: a hidden unit has a row in each gate and reads itself at the next step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from smartc.analysis.channel_rules.registry import rule
from smartc.analysis.channel_rules.weighted import STAYS, link, read
from smartc.analysis.channels.labels import Declined, Factor, IntArray, Labels, Site
from smartc.ir.traced_model import operator_name, value_of

# Sums that a hidden unit has in each step; of an LSTM: input, forget, cell, output.
_GATES = {"lstm": 4, "gru": 3}
_STEPS = "steps through an axis that carries channels"


@rule("recurrence")
def recurrence(site: Site, x: Labels, states: Any, parameters: Sequence[Labels], *options: Any) -> Any:
    """Own new hidden units on the last axis, and read the input's channels and the hidden state's.

    Shapes: input (steps, N, in) or (N, steps, in), each state (1, N, hidden), parameters as ``_Weights`` has them.
    """
    if not isinstance(options[0], bool):
        raise Declined("takes sequences packed by their lengths")
    if sum(len(parameter.shape) == 2 for parameter in parameters) > 3:
        raise Declined("is several layers in one call")
    return _stepped(site, x, states, parameters)


@rule("recurrent_step")
def recurrent_step(site: Site, x: Labels, states: Any, *parameters: Labels | None) -> Any:
    """Own new hidden units, and read the input's channels and the hidden state's, as every other step does.

    Shapes: input (N, in), each state (N, hidden).
    """
    return _stepped(site, x, states, [one for one in parameters if one is not None])


def _stepped(site: Site, x: Labels, states: Any, parameters: Sequence[Labels]) -> Any:
    """Return the labels of outputs and states.

    Args:
        states: The hidden state, or of an LSTM a list of hidden state and cell state.
        parameters: Weights of the input (gates x hidden, in) and of the hidden state (gates x hidden, out), and of
            a projected LSTM (out, hidden) last; biases (gates x hidden) between them.
    """
    into, recurrent, *projections = [one for one in parameters if len(one.shape) == 2]
    states = states if isinstance(states, (list, tuple)) else (states,)
    cells = _gates(site, [one for one in parameters if one not in projections])
    hidden = _projected(site, projections[0], cells) if projections else cells
    for weight, channels in ((into, _channels(site, x)), (recurrent, hidden)):
        link(site, channels, site.sole(weight, 1), STAYS)
        read(site, weight, site.sole(weight, 1))
    for state, units in zip(states, (hidden, cells), strict=False):
        link(site, _channels(site, state), units, "starts from a state all of whose channels stay")
    values = value_of(site.node)
    if not isinstance(values, (list, tuple)):
        return _on_last(values.shape, hidden)
    # The last of three outputs, and of a single step's two, is the cell state of an LSTM.
    units_of = [hidden] * len(values)
    if len(states) == 2:
        units_of[-1] = cells
    return tuple(_on_last(value.shape, units) for value, units in zip(values, units_of, strict=True))


def _gates(site: Site, parameters: Sequence[Labels]) -> IntArray | None:
    """Tie the rows of each hidden unit in all gates of weights and biases; return its label, None where all stay."""
    count = _GATES.get(operator_name(site.node.target).removesuffix("_cell"), 1)
    rows = [site.sole(parameter, 0) for parameter in parameters]
    first = next((row for row in rows if row is not None), None)
    if first is None or len(first) == count:
        for row in (row for row in rows if row is not None):
            site.freeze(row, "has a single hidden unit")
        return None
    units = first[: len(first) // count]
    for own in rows:
        link(site, units[None, :], None if own is None else own.reshape(count, -1), "adds to channels that all stay")
    matrices = (row for row, parameter in zip(rows, parameters, strict=True) if len(parameter.shape) == 2)
    site.book.owned += [row for row in matrices if row is not None]
    return units


def _projected(site: Site, weight: Labels, cells: IntArray | None) -> IntArray | None:
    """Own the channels that a projection makes of the cells."""
    out, into = site.sole(weight, 0), site.sole(weight, 1)
    link(site, cells, into, STAYS)
    read(site, weight, into)
    site.book.owned += [] if out is None else [out]
    return out


def _channels(site: Site, x: Labels) -> IntArray | None:
    """Return the labels of the last axis; no other may carry any."""
    return site.sole(site.uniform(x, range(len(x.shape) - 1), _STEPS), -1)


def _on_last(shape: tuple[int, ...], units: IntArray | None) -> Labels:
    """Return labels on the last axis alone."""
    return Labels(shape, () if units is None else (Factor((len(shape) - 1,), np.asarray(units)),))
