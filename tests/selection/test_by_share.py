"""A share of the channels is a share of those that can go for it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from smartc.selection.choose import choose
from smartc.targets.target import load_target
from tests.support.search_networks import budget_for, removed, search


class WithTable(nn.Module):
    """A hidden layer beside another one that is computed from a table, before the network runs."""

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(64, 256), nn.Linear(256, 64)
        self.c, self.d = nn.Linear(2, 256), nn.Linear(256, 64)
        self.register_buffer("table", torch.randn(49, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(functional.gelu(self.a(x))) + self.d(torch.relu(self.c(self.table))).mean(0)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_channels_that_save_no_time_do_not_count(share: float) -> None:
    torch.manual_seed(0)
    network = search(WithTable(), torch.randn(4, 64), load_target("npu-8x8"))
    assert sorted(network.weights.tolist()) == [0, 1]
    choice = choose(network, budget_for(network, share, None))
    by_name = dict(zip((group.name for group in network.groups.groups), choice.kept.tolist(), strict=True))
    assert by_name == {"a": round((1 - share) * 256), "c": 256}
    assert removed(network, choice.kept) == pytest.approx(share)
    assert choice.note == ""
    assert choice.reasons[list(by_name).index("c")] == "removing some would save no time"
