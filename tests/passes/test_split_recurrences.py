"""Split-recurrences computes what the layers computed, one layer in one direction per call."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smartc.ir.traced_model import TracedModel, arguments_of, operator_of, value_of
from smartc.passes.split_recurrences import SplitRecurrences
from tests.support.oracle import relative_error
from tests.support.raw_model import raw
from tests.support.recurrent_networks import NETWORKS, StatesOfAllLayers, Tagger, build, sequence, token_ids

ROUNDING = 1e-12


def recurrences(model: TracedModel) -> list[Any]:
    """Return the arguments of every recurrent layer."""
    return [arguments_of(node) for node in model.calls() if operator_of(node).rule == "recurrence"]


@pytest.mark.parametrize("name", NETWORKS)
def test_computes_the_same(name: str) -> None:
    module, x = build(name)
    model = raw(module, x)
    assert relative_error(model.run((x,)), SplitRecurrences().run(model).model.run((x,))) < ROUNDING


def test_every_layer_and_direction_is_a_call() -> None:
    model = raw(Tagger(num_layers=3, dropout=0.5).eval(), token_ids())
    result = SplitRecurrences().run(model)
    assert [(given[4], given[5], given[7]) for given in recurrences(result.model)] == [(1, 0.0, False)] * 6
    assert [len(given[2]) for given in recurrences(result.model)] == [4] * 6
    kinds = [operator_of(node).name for node in result.model.calls()]
    assert (kinds.count("flip"), kinds.count("dropout")) == (6, 2)
    assert [tuple(remark) for remark in result.remarks] == [
        ("recurrent", "each layer and direction is a call of its own", True)
    ]
    assert recurrences(model)[0][4] == 3


def test_knows_the_shapes_that_it_makes() -> None:
    model = SplitRecurrences().run(raw(StatesOfAllLayers().eval(), sequence())).model
    shapes = [[value.shape for value in value_of(node)] for node in model.calls() if operator_of(node).name == "gru"]
    batch = shapes[0][0][0]
    assert shapes == [[(batch, 7, 24), (1, batch, 24)]] * 4
    joined = next(node for node in model.calls() if operator_of(node).rule == "transpose")
    assert value_of(joined.all_input_nodes[0]).shape == (4, batch, 24)


def test_a_single_layer_stays_as_it_is() -> None:
    result = SplitRecurrences().run(raw(Tagger(num_layers=1, bidirectional=False).eval(), token_ids()))
    assert not result.modified


class SharedZeros(nn.Module):
    """Two layers that start from the same tensor of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.GRU(16, 8, batch_first=True), nn.GRU(16, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        zeros = x.new_zeros(1, x.shape[0], 8)
        return torch.cat((self.one(x, zeros)[0], self.other(x, zeros)[0]), 2)


def test_states_of_zeros_are_not_shared() -> None:
    model = SplitRecurrences().run(raw(SharedZeros().eval(), sequence())).model
    one, other = (given[1] for given in recurrences(model))
    assert one is not other
