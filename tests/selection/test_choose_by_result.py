"""Where the smaller network costs something else than was foreseen, channels are chosen again."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import smartc
from smartc.core.errors import UserError
from smartc.selection.choose import choose
from smartc.selection.choose_by_result import choose_by_result
from smartc.selection.kept_options import BoolArray
from tests.support.search_networks import budget_for, search_of


class Gathered(nn.Module):
    """A layer that reads some channels twice and others not at all."""

    index: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, size, 3, padding=1)
        self.second = nn.Conv2d(size, size, 3, padding=1)
        self.third = nn.Conv2d(size, size, 3, padding=1)
        self.last = nn.Conv2d(size, 8, 1)
        self.register_buffer("index", torch.randint(0, size, (size,)))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.last(torch.relu(self.third(x[:, self.index])))


@pytest.mark.parametrize("target", ["npu-8x8", "npu-32x32"])
def test_an_index_that_repeats_channels_misses_no_budget(target: str) -> None:
    torch.manual_seed(0)
    model, x = Gathered(64).eval(), torch.randn(1, 3, 16, 16)
    shares = []
    for asked in (0.9, 0.8, 0.6, 0.4):
        latency = smartc.compile(model, x, target=target, latency=f"{asked}x", backends=()).report.latency
        shares.append(latency.compiled / latency.dense)
        assert shares[-1] <= asked
    assert all(tighter <= looser for looser, tighter in pairwise(shares))


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
@pytest.mark.parametrize("name", ["residual_bottlenecks", "inverted_residual"])
def test_a_result_that_was_not_foreseen_is_corrected(name: str, factor: float) -> None:
    search = search_of(name)
    budget = budget_for(search, None, "0.7x")

    def cost(keep: BoolArray) -> float:
        counts = np.array([keep[group.units].sum() for group in search.groups.groups])
        return factor * float(search.cost(counts))

    kept = choose_by_result(search, budget, cost).kept
    assert factor * float(search.cost(kept)) <= budget.limit
    foreseen = choose(search, budget).kept
    if factor == 1:
        assert kept.tolist() == foreseen.tolist()
    elif factor < 1:
        assert float(search.cost(kept)) >= float(search.cost(foreseen))


def test_what_no_result_can_be_is_refused_with_the_least_that_one_is() -> None:
    search = search_of("residual_bottlenecks")
    least = float(search.cost(search.fewest))
    budget = budget_for(search, None, f"{least / float(search.cost(search.full)) * 1.05:.4f}x")
    with pytest.raises(UserError, match="removing channels makes the model at best"):
        choose_by_result(search, budget, lambda keep: 1.2 * least)
    assert choose_by_result(search, budget, lambda keep: least).kept is not None
