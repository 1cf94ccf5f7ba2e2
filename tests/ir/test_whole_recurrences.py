"""Exporters see recurrent layers as one call, whatever the number of steps, and everything is as before afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch._decomp import decomposition_table, decompositions

from smartc.frontend.capture import trace
from smartc.ir.traced_model import operator_of
from smartc.ir.whole_recurrences import whole_recurrences
from smartc.lowering.to_onnx import to_onnx
from smartc.lowering.to_program import to_program
from tests.support.recurrent_networks import Tagger, build, token_ids

LAYERS = ("gru_tagger", "rnn_relu", "lstm_projected", "lstm_learned_states")


@pytest.fixture
def no_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse to write a step out."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a step is written out")

    for name in ("one_layer_lstm", "one_layer_rnn", "_rnn_helper"):
        monkeypatch.setattr(decompositions, name, refuse)


@pytest.mark.parametrize("name", LAYERS)
def test_no_step_is_written_out(name: str, no_steps: None) -> None:
    module, x = build(name, torch.float32)
    model = trace(module, x)
    to_onnx(model, to_program(model), {"version": "0"})


def test_no_step_is_written_out_where_the_batch_is_fixed(no_steps: None) -> None:
    model = trace(nn.GRU(4, 6).eval(), torch.randn(5, 2, 4))
    assert not model.dynamic_batch
    to_onnx(model, to_program(model), {"version": "0"})


@pytest.mark.slow
def test_the_graph_does_not_grow_with_the_steps() -> None:
    sizes = []
    for steps in (5, 50):
        model = trace(Tagger().eval(), token_ids(steps))
        program = to_program(model)
        nodes = to_onnx(model, program, {"version": "0"}).graph.node
        sizes.append((len(model.graph.nodes), len(program.graph.nodes), len(nodes)))
    assert sizes[0] == sizes[1]


def test_steps_are_not_taken_for_the_batch() -> None:
    model = trace(nn.LSTM(4, 6).eval(), torch.randn(5, 2, 4))
    assert [operator_of(node).name for node in model.calls() if operator_of(node).family == "recurrent"] == ["lstm"]
    assert model.inputs[0].shape == (5, 2, 4)


def test_puts_back_what_was_there() -> None:
    operators = (torch.ops.aten.lstm.input, torch.ops.aten.rnn_relu.input)
    before = [dict(operator.py_kernels) for operator in operators]
    table = dict(decomposition_table)
    with pytest.raises(ValueError, match="stop"), whole_recurrences():
        raise ValueError("stop")
    assert [dict(operator.py_kernels) for operator in operators] == before
    assert dict(decomposition_table) == table
