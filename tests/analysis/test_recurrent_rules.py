"""Hidden units of recurrent layers go with all their gates, exactly, and each kind that stays says why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from smartc.analysis.find_channel_groups import find_channel_groups
from smartc.compile import compile as compiled
from smartc.frontend.capture import trace
from tests.support.cut_model import Cut, cut_module
from tests.support.oracle import assert_equals_masked, masked_original, relative_error
from tests.support.recurrent_networks import HIDDEN, NETWORKS, Classifier, Tagger, build, sequence, token_ids


def units(module: nn.Module, x: Any) -> dict[str, tuple[int, int]]:
    """Return, for each group, its units and the rows of weights that one of them stands for."""
    return {group.name: (len(group), group.weight) for group in find_channel_groups(trace(module.eval(), x)).groups}


@pytest.mark.parametrize("name", NETWORKS)
def test_removed_equals_masked(name: str) -> None:
    module, x = build(name)
    for seed in range(2):
        assert_equals_masked(module, (x,), cut_module(module, x, seed))


@pytest.mark.parametrize("name", ["lstm_tagger", "gru_classifier", "rnn_relu", "lstm_projected", "text_recognition"])
def test_removed_equals_masked_in_float32(name: str) -> None:
    module, x = build(name, torch.float32)
    done = cut_module(module, x, 1)
    masked = masked_original(module, done.to_dict()).float()
    assert relative_error(masked(x), done.module(x)) < 1e-5


@pytest.mark.parametrize(("kind", "rows"), [("LSTM", 8), ("GRU", 6), ("RNN", 2)])
def test_each_layer_and_direction_has_units_of_its_own(kind: str, rows: int) -> None:
    places = ("l0", "l0_reverse", "l1", "l1_reverse")
    expected = {f"recurrent.weight_ih_{place}": (HIDDEN, rows) for place in places}
    assert units(Tagger(kind), token_ids()) == {"embed": (16, 1), **expected}
    # Reading the states of one layer ties it to no other.
    assert units(Classifier(kind), token_ids()) == {"embed": (16, 1), **expected}


def test_states_passed_on_tie_layer_by_layer() -> None:
    assert units(*build("encoder_decoder")) == {
        "embed": (16, 1),
        "encoder.weight_ih_l0": (HIDDEN, 16),
        "encoder.weight_ih_l1": (HIDDEN, 16),
    }


def test_channels_of_a_projection_are_not_its_cells() -> None:
    found = units(Tagger(proj_size=12, num_layers=1, bidirectional=False), token_ids())
    assert found == {"embed": (16, 1), "recurrent.weight_ih_l0": (HIDDEN, 8), "recurrent.weight_hr_l0": (12, 1)}


def test_as_many_channels_as_cells_can_be_left_of_a_projection() -> None:
    module, x = build("lstm_projected_learned_states")
    model = trace(module, x)
    groups = find_channel_groups(model)
    keep = np.ones(groups.count, dtype=bool)
    cells = next(group for group in groups.groups if group.name.endswith("weight_ih_l0"))
    keep[cells.units[12:]] = False
    assert_equals_masked(module, (x,), Cut(model, groups, keep))


class StateGiven(nn.Module):
    """The state is an input, and so is the next an output."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.head = nn.GRU(16, HIDDEN, batch_first=True), nn.Linear(HIDDEN, 3)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        outputs, state = self.recurrent(x, state)
        return self.head(outputs), state


class OneUnit(nn.Module):
    """A recurrent layer with one hidden unit."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.recurrent, self.head = nn.Linear(16, 8), nn.LSTM(8, 1, batch_first=True), nn.Linear(1, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(torch.relu(self.first(x)))[0])


def test_says_why_units_stay() -> None:
    frozen = find_channel_groups(trace(StateGiven().eval(), (sequence(), torch.zeros(1, 2, HIDDEN)))).frozen
    starts = "meets `gru` (recurrent), which starts from a state all of whose channels stay"
    assert frozen["recurrent.weight_hh_l0", 0] == frozen["head.weight", 1] == starts


def test_one_unit_stays_and_its_producer_shrinks() -> None:
    assert units(OneUnit(), sequence()) == {"first": (8, 1)}
    module = OneUnit().double().eval()
    assert_equals_masked(module, (sequence().double(),), cut_module(module, sequence().double()))


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_half_of_the_hidden_units_go(kind: str) -> None:
    module = Tagger(kind).eval()
    done = compiled(module, token_ids(), target="npu-8x8", sparsity=0.5, backends=())
    gates = {"LSTM": 4, "GRU": 3}[kind]
    state = done.module.state_dict()
    rows = [len(state[f"recurrent.weight_ih_{place}"]) // gates for place in ("l0", "l0_reverse", "l1", "l1_reverse")]
    assert sum(rows) <= 4 * HIDDEN // 2
    assert [state[f"recurrent.weight_hh_{place}"].shape for place in ("l0", "l1")] == [
        (gates * rows[0], rows[0]),
        (gates * rows[2], rows[2]),
    ]
    assert state["recurrent.weight_ih_l1"].shape[1] == rows[0] + rows[1]
    assert state["head.weight"].shape[1] == rows[2] + rows[3]
