"""Refilling: channels come back while the time allows, and more time never gives a faster network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smartc.selection.refill import refilled
from smartc.targets.target import load_target
from tests.support.search_networks import chain, score, search, search_of, wide_array

IMAGE = torch.zeros(2, 3, 6, 6)


def test_brings_back_all_that_costs_no_time() -> None:
    network = search(chain(64, 64), IMAGE, wide_array(load_target("npu-8x8")))
    assert refilled(network, network.fewest, float(network.cost(network.fewest))).tolist() == [64, 64]


def test_brings_back_nothing_where_everything_costs_time() -> None:
    network = search(chain(64, 64), IMAGE, load_target("npu-8x8"))
    kept = np.array([32, 16])
    assert refilled(network, kept, float(network.cost(kept))).tolist() == [32, 16]
    assert kept.tolist() == [32, 16]


@pytest.mark.parametrize("name", ["residual_bottlenecks", "dense_concat", "c2f_chunk"])
def test_uses_what_the_limit_allows_and_never_more(name: str) -> None:
    network = search_of(name)
    fastest, dense = (float(network.cost(kept)) for kept in (network.fewest, network.full))
    last = 0.0
    for limit in np.linspace(fastest, dense, 40):
        kept = refilled(network, network.fewest, float(limit))
        cycles = float(network.cost(kept))
        assert last <= cycles <= limit * (1 + 1e-10)
        assert (kept >= network.fewest).all()
        last = cycles
    assert kept.tolist() == network.full.tolist()
    assert score(network, kept) == pytest.approx(sum(value[-1] for value in network.values))


def test_leaves_no_step_undone_that_would_still_fit() -> None:
    network = search_of("residual_bottlenecks")
    limit = 0.6 * float(network.cost(network.full))
    kept = refilled(network, network.fewest, limit)
    for group, place in enumerate(network.places(kept)):
        if place + 1 < len(network.options[group]):
            raised = kept.copy()
            raised[group] = network.options[group][place + 1]
            assert float(network.cost(raised)) > limit
