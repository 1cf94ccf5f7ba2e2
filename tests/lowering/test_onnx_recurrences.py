"""ONNX has its own operators for recurrent layers, and ONNX Runtime computes with them what PyTorch does."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from smartc.frontend.capture import trace
from smartc.ir.traced_model import TracedModel
from smartc.lowering.to_onnx import OnnxSession, to_onnx
from smartc.lowering.to_program import to_program
from tests.support.cut_model import cut_module
from tests.support.oracle import relative_error
from tests.support.recurrent_networks import Tagger, build, sequence, token_ids

# What each network has, beside others of which it has two or more layers or directions.
KINDS = {
    "lstm_tagger": {"LSTM": 4},
    "gru_classifier": {"GRU": 4},
    "rnn_tagger": {"RNN": 4},
    "rnn_relu": {"RNN": 2},
    "lstm_projected": {"Scan": 4},
    "lstm_without_bias": {"LSTM": 2},
    "gru_without_bias": {"GRU": 2},
    "lstm_learned_states": {"LSTM": 2},
    "lstm_projected_learned_states": {"Scan": 2},
    "encoder_decoder": {"LSTM": 4},
    "text_recognition": {"LSTM": 4},
    "speech": {"GRU": 2},
}


def operators(model: TracedModel, *batches: torch.Tensor) -> Counter[str]:
    """Return how many of each operator a model has in ONNX, once it is seen to compute the same."""
    written = to_onnx(model, to_program(model), {"version": "0"})
    session = OnnxSession(written.SerializeToString(), "model.onnx")
    for x in batches:
        found = [torch.from_numpy(one) for one in session.run((x,))]
        assert relative_error(tree_leaves(model.run((x,))), found) < 1e-5
    return Counter(node.op_type for node in written.graph.node)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_computes_the_same_of_what_is_left(name: str) -> None:
    module, x = build(name, torch.float32)
    found = operators(cut_module(module, x, 1).smaller(), x[:1], torch.cat((x, x[:1])))
    assert {kind: count for kind, count in found.items() if kind in ("LSTM", "GRU", "RNN", "Scan")} == KINDS[name]


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_runs_backward_without_reversing_anything(kind: str) -> None:
    model = trace(Tagger(kind, num_layers=1).eval(), token_ids())
    written = to_onnx(model, to_program(model), {"version": "0"})
    layers = [node for node in written.graph.node if node.op_type == kind]
    directions = [next(one.s for one in node.attribute if one.name == "direction") for node in layers]
    assert directions == [b"forward", b"reverse"]
    assert not any(node.op_type == "Slice" for node in written.graph.node)


def test_weights_are_stored_as_the_operators_take_them() -> None:
    model = trace(nn.GRU(64, 128, batch_first=True).eval(), torch.randn(2, 5, 64))
    written = to_onnx(model, to_program(model), {"version": "0"})
    layer = next(node for node in written.graph.node if node.op_type == "GRU")
    stored = {tensor.name: list(tensor.dims) for tensor in written.graph.initializer}
    assert [stored[name] for name in layer.input[1:4]] == [[1, 384, 64], [1, 384, 128], [1, 768]]


def test_with_the_batch_fixed() -> None:
    torch.manual_seed(0)
    model = trace(nn.LSTM(8, 6, 2, bidirectional=True).eval(), torch.randn(5, 2, 8))
    assert not model.dynamic_batch
    assert operators(model, torch.randn(5, 2, 8))["LSTM"] == 4


def test_reversed_tokens() -> None:
    class Backward(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.recurrent = nn.Embedding(40, 16), nn.RNN(16, 8, batch_first=True)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.recurrent(self.embed(ids.flip(1).flip(())))[0].flip(-2)

    torch.manual_seed(0)
    assert operators(trace(Backward().eval(), token_ids()), token_ids())["RNN"] == 1


def test_reversed_by_the_network_itself() -> None:
    class Backward(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent, self.other = nn.GRU(16, 8, batch_first=True), nn.GRU(16, 8, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (
                self.recurrent(x.flip(1))[0].flip(1)
                + self.other(x.flip(2))[0].flip((1, 2))
                + x.flip(1).flip(2)[..., :8]
            )

    torch.manual_seed(0)
    assert operators(trace(Backward().eval(), sequence()), sequence())["GRU"] == 2
