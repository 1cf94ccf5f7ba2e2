"""ONNX's own operators for recurrent layers, one layer in one direction per call as the graph has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from onnxscript import FLOAT, evaluator, ir
from onnxscript import opset20 as op
from onnxscript.optimizer import fold_constants

aten = torch.ops.aten
# The order of ONNX's gates in PyTorch's; a plain recurrent layer has one.
_ORDERS = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}
# The inputs of ONNX's operators that hold weights: of the input, of the hidden state, and biases.
_WEIGHTS = (1, 2, 3)
_LAST = torch.iinfo(torch.int64).min


def recurrence_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the translations of one export, by PyTorch's operator; the exporter reads their signatures."""
    own = _Translations()

    def flip(self: FLOAT, dims: Sequence[int]) -> Any:
        return own.flip(self, dims)

    def lstm(
        input: FLOAT,
        hx: Sequence[FLOAT],
        params: Sequence[FLOAT],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> Any:
        return own.lstm(input, hx, params, batch_first)

    return {
        aten.flip.default: flip,
        aten.lstm.input: lstm,
        aten.gru.input: _of_one_state(partial(own.layer, "GRU", _operator, linear_before_reset=1)),
        aten.rnn_tanh.input: _of_one_state(partial(own.layer, "RNN", _operator, activations=["Tanh"])),
        aten.rnn_relu.input: _of_one_state(partial(own.layer, "RNN", _operator, activations=["Relu"])),
    }


def _of_one_state(layer: Callable[..., Any]) -> Callable[..., Any]:
    """Return the translation of a recurrent layer that has no cells."""

    def recurrence(
        input: FLOAT,
        hx: FLOAT,
        params: Sequence[FLOAT],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> Any:
        return layer(input, [hx], params, batch_first)

    return recurrence


def fold_weights(model: ir.Model) -> None:
    """Store, in place, the weights of recurrent layers as these take them, whatever their size."""
    layers = [node for node in model.graph if node.op_type in _ORDERS]
    wanted = [layer.inputs[place] for layer in layers for place in _WEIGHTS if place < len(layer.inputs)]
    makers: set[ir.Node] = set()
    while wanted:
        value = wanted.pop()
        maker = None if value is None else value.producer()
        if maker is not None and maker not in makers:
            makers.add(maker)
            wanted += maker.inputs
    if makers:
        fold_constants(model, should_fold=lambda node: node in makers)


class _Translations:
    """Translations that know which sequences were reversed: ONNX's operators run backward by themselves."""

    def __init__(self) -> None:
        """Begin an export."""
        self.reversed: dict[ir.Value, tuple[ir.Value, tuple[int, ...]]] = {}

    def flip(self, x: Any, dims: Sequence[int]) -> Any:
        """Reverse axes; what was reversed before is taken as it was."""
        source, axes = self.reversed.get(x, (None, ()))
        if source is not None and axes == tuple(dims):
            return source
        if not dims:
            return op.Identity(x)
        count = len(dims)
        flipped = op.Slice(
            x,
            _numbers([-1] * count),
            _numbers([_LAST] * count),
            _numbers(list(dims)),
            _numbers([-1] * count),
        )
        self.reversed[flipped] = (x, tuple(dims))
        return flipped

    def lstm(self, x: Any, states: Any, parameters: Any, batch_first: bool) -> Any:
        """Run an LSTM; a projected one, which ONNX lacks, as a loop over the steps."""
        return self.layer("LSTM", _projected if len(parameters) % 2 else _operator, x, states, parameters, batch_first)

    def layer(
        self, kind: str, run: Callable[..., Any], x: Any, states: Any, parameters: Any, batch_first: bool, **facts: Any
    ) -> Any:
        """Run a layer on sequences (steps, N, in); return outputs and states in PyTorch's shapes."""
        source, axes = self.reversed.get(x, (x, ()))
        backward = axes == (int(batch_first),)
        x = source if backward else x
        x = op.Transpose(x, perm=[1, 0, 2]) if batch_first else x
        outputs, *left = run(kind, x, states, parameters, backward, **facts)
        outputs = op.Transpose(outputs, perm=[1, 0, 2]) if batch_first else outputs
        return (self.flip(outputs, axes) if backward else outputs, *left)


def _operator(kind: str, x: Any, states: Any, parameters: Any, backward: bool, **facts: Any) -> Any:
    """Call ONNX's operator."""
    into, recurrent, *biases = parameters
    hidden = recurrent.shape[1]
    both = op.Concat(*(_ordered(kind, bias, hidden) for bias in biases), axis=0) if biases else None
    weights = [_ordered(kind, into, hidden), _ordered(kind, recurrent, hidden), both]
    stacked = [weight if weight is None else op.Unsqueeze(weight, _numbers([0])) for weight in weights]
    direction = "reverse" if backward else "forward"
    outputs, *left = getattr(op, kind)(x, *stacked, None, *states, direction=direction, hidden_size=hidden, **facts)
    return (op.Squeeze(outputs, _numbers([1])), *left[: len(states)])


def _numbers(values: Sequence[int]) -> Any:
    """Return a constant of whole numbers."""
    return op.Constant(value_ints=values)


def _ordered(kind: str, weight: Any, hidden: int) -> Any:
    """Return the rows of a weight or bias with the gates in ONNX's order."""
    gates = [(hidden * gate, hidden * (gate + 1)) for gate in _ORDERS[kind]]
    if len(gates) == 1:
        return weight
    axis = _numbers([0])
    ends = [[_numbers([end]) for end in gate] for gate in gates]
    return op.Concat(*(op.Slice(weight, first, last, axis) for first, last in ends), axis=0)


def _projected(kind: str, x: Any, states: Any, parameters: Any, backward: bool) -> Any:
    """Run a projected LSTM as a loop; the products with the input are one, before it."""
    into, recurrent, *biases, projection = parameters
    sums = op.MatMul(x, op.Transpose(into, perm=[1, 0]))
    for bias in biases:
        sums = op.Add(sums, bias)
    first = _numbers([0])
    hidden, cell = (op.Squeeze(state, first) for state in states)
    weights = [op.Transpose(weight, perm=[1, 0]) for weight in (recurrent, projection)]
    ways = ir.AttrInt64s("scan_input_directions", [int(backward)])
    facts = [
        ir.AttrGraph("body", _step(f"{into.name}/step", into.dtype, *weights)),
        ir.AttrInt64("num_scan_inputs", 1),
        ways,
        ir.AttrInt64s("scan_output_directions", ways.value),
    ]
    # Its outputs are as many as the body's, which opset20 cannot know.
    scan = ir.Node("", "Scan", [hidden, cell, sums], facts, num_outputs=3)
    recorder: Any = evaluator.default()
    recorder.nodes.append(scan)
    last: tuple[Any, ...] = tuple(scan.outputs)
    return last[2], op.Unsqueeze(last[0], first), op.Unsqueeze(last[1], first)


def _step(name: str, kind: Any, recurrent: Any, projection: Any) -> ir.Graph:
    """Return one step of a projected LSTM: from both states and the sums of the input to states and output."""
    hidden, cell, step = given = [ir.Value(name=f"{name}/{own}") for own in ("hidden", "cell", "sums")]
    tape = ir.tape.Tape()
    gates = tape.op("Add", [step, tape.op("MatMul", [hidden, recurrent])])
    split = tape.op_multi_out("Split", [gates], {"axis": -1, "num_outputs": 4}, num_outputs=4)
    enter, forget, leave = (tape.op("Sigmoid", [split[place]]) for place in (0, 1, 3))
    fresh = tape.op("Mul", [enter, tape.op("Tanh", [split[2]])])
    kept = tape.op("Add", [tape.op("Mul", [forget, cell]), fresh])
    shown = tape.op("MatMul", [tape.op("Mul", [leave, tape.op("Tanh", [kept])]), projection])
    results = [shown, kept, tape.op("Identity", [shown])]
    made = [output for node in tape.nodes for output in node.outputs]
    for place, value in enumerate(made):
        value.name = f"{name}/{place}"
    for value in (*given, *made):
        value.type = ir.TensorType(kind)
    return ir.Graph(given, results, nodes=tape.nodes, name=name, opset_imports={"": 20})
