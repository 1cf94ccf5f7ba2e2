"""A group that keeps few channels is told why, in figures."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from smartc.selection.choose import KeptOptions, choice_of, choose
from smartc.targets.target import load_target
from tests.support.search_networks import budget_for, chain, search


def one_poor_group(network: KeptOptions, poor: float) -> KeptOptions:
    """Return the search in which the channels of the largest group are worth this much, and all others one."""
    scores = np.ones(len(network.scores))
    scores[network.groups.groups[int(network.full.argmax())].units] = poor
    return KeptOptions(network.layers, network.target, scores)


@pytest.mark.parametrize(
    ("given", "words"),
    [((0.5,), "(channel|time)"), ((None, "0.2x"), "time"), ((None, None, "0.15x"), "MAC")],
)
def test_few_channels_are_told_why(given: tuple[Any, ...], words: str) -> None:
    plain = search(chain(64, 128, 64), torch.zeros(2, 3, 6, 6), load_target("npu-8x8"))
    budget = budget_for(plain, *given)
    network = KeptOptions(plain.layers, plain.target, plain.scores, budget.measure)
    poor = one_poor_group(network, 0.01)
    poor = KeptOptions(poor.layers, poor.target, poor.scores, budget.measure)
    choice = choose(poor, budget)
    least = int(network.full.argmax())
    learned = choice_of(poor, budget, choice.kept, learned=True)
    assert learned.reasons[least] == "keeps 8 of 128 channels; learning found the others worth more"
    assert choice.kept[least] == 8
    found = re.fullmatch(
        rf"keeps 8 of 128 channels; more of them bring less than (\d+)% of the importance per {words} "
        "of the last ones kept elsewhere",
        choice.reasons[least],
    )
    assert found is not None
    assert int(found[1]) < 20
    assert all("importance" not in reason for at, reason in enumerate(choice.reasons) if at != least)
