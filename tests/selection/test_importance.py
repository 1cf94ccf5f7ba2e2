"""Scores: SP-LAMP and magnitude."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from smartc.analysis.find_channel_groups import find_channel_groups
from smartc.core.errors import UserError
from smartc.frontend.capture import trace
from smartc.selection.importance import magnitude, sp_lamp, unit_scores


def test_sp_lamp_by_hand() -> None:
    assert np.allclose(sp_lamp(np.array([4.0, 1.0, 3.0])), [1.0, 1 / 8, 3 / 7])


def test_the_strongest_scores_one_and_order_is_kept() -> None:
    energy = np.random.default_rng(0).random(1000)
    scores = sp_lamp(energy)
    assert scores[energy.argmax()] == 1
    assert (np.argsort(scores) == np.argsort(energy)).all()
    assert (scores > 0).all()


def test_small_ones_are_not_lost_among_many() -> None:
    energy = np.full(1_000_000, 1e-3)
    energy[0] = 1e9
    assert sp_lamp(energy)[0] == 1
    assert sp_lamp(energy[1:]).max() == 1


def test_silent_channels_score_least() -> None:
    assert sp_lamp(np.array([0.0, 2.0, 0.0])).tolist() == [0, 1, 0]
    assert magnitude(np.array([0.0, 4.0])).tolist() == [0, 2]
    assert magnitude(np.zeros(3)).tolist() == [1, 1, 1]


def test_magnitude_counts_all_coupled_producers() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.body, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first = self.stem(x)
            return self.head(first + self.body(first))

    module = Residual()
    model = trace(module, torch.zeros(2, 3, 4, 4))
    groups = find_channel_groups(model)
    found = unit_scores(model, groups, "magnitude")[groups.groups[0].units]
    both = module.stem.weight.square().sum((1, 2, 3)) + module.body.weight.square().sum((1, 2, 3))
    norms = both.sqrt().detach().double().numpy()
    assert np.allclose(found, norms / norms.mean(), rtol=1e-6)


def test_unknown_learner() -> None:
    model = trace(nn.Sequential(nn.Conv2d(3, 4, 1)), torch.zeros(2, 3, 4, 4))
    with pytest.raises(UserError) as caught:
        unit_scores(model, find_channel_groups(model), "luck")
    assert str(caught.value) == "learner='luck': unknown learner. Choose one of sp-lamp, magnitude."
