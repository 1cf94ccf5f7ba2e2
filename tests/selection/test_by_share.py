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


class Branches(nn.Module):
    """Hidden layers of one chain, each with a branch beside it that is computed before the network runs."""

    def __init__(self, widths: list[int], tables: list[int]) -> None:
        super().__init__()
        ends = [32] * len(widths)
        pairs = list(zip(ends, widths, strict=True))
        self.wide = nn.ModuleList(nn.Linear(end, width) for end, width in pairs)
        self.narrow = nn.ModuleList(nn.Linear(width, end) for end, width in pairs)
        self.tables = nn.ModuleList(
            nn.Sequential(nn.Linear(3, size), nn.ReLU(), nn.Linear(size, 32)) for size in tables
        )
        self.register_buffer("table", torch.randn(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        for wide, narrow, constant in zip(self.wide, self.narrow, self.tables, strict=True):
            x = x + narrow(functional.gelu(wide(x))) + constant(self.table).mean(0)
        return x


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_group_pays_for_branches_that_cost_nothing(seed: int, dtype: torch.dtype) -> None:
    torch.manual_seed(seed)
    depth = 2 + seed % 3
    widths, tables = ((torch.randint(4, 33, (depth,)) * 8).tolist() for _ in range(2))
    module = Branches(widths, tables).to(dtype)
    network = search(module, torch.randn(4, 32, dtype=dtype), load_target("npu-8x8"))
    choice = choose(network, budget_for(network, 0.5, None))
    assert int(network.weights @ network.full) == sum(widths)
    assert 0.5 <= removed(network, choice.kept) < 0.5 + 8 / sum(widths) + 0.02
    for kept, size, weight, reason in zip(choice.kept, network.full, network.weights, choice.reasons, strict=True):
        if not weight:
            assert (kept, reason) == (size, "removing some would save no time")
        else:
            assert kept >= size / 10 or "of the importance per" in reason
