"""Tile steps: whole tiles where a group has more than one, finer ones where it has not and still saves some."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from smartc.selection.tile_steps import TileStep
from smartc.targets.target import load_target
from tests.support.search_networks import chain, search, search_of

IMAGE = torch.zeros(2, 3, 6, 6)


def steps(module: nn.Module, target: str = "npu-8x8") -> list[TileStep]:
    """Return the steps of a module's groups."""
    return search(module, IMAGE, load_target(target)).steps


def test_groups_of_several_tiles_keep_whole_tiles() -> None:
    assert steps(chain(64, 24, 9)) == [TileStep(8, 8)] * 3
    assert steps(chain(64, 24), "npu-32x32") == [TileStep(32, 32), TileStep(32, 24)]


def test_a_group_of_one_tile_stays_whole() -> None:
    assert steps(chain(8, 5)) == [TileStep(8, 8), TileStep(8, 5)]


@pytest.mark.parametrize(
    ("width", "groups", "step"),
    [
        # Channels of one group, which many groups side by side multiply to more than a tile.
        (64, 8, TileStep(8, 1)),  # 8 x any count fills tiles
        (48, 6, TileStep(8, 4)),  # 6 x 4 is the least that does
        (104, 13, TileStep(8, 1)),  # none short of all does
        (64, 4, TileStep(8, 8)),  # two tiles in each group
    ],
)
def test_channels_of_convolution_groups(width: int, groups: int, step: TileStep) -> None:
    assert steps(chain(width, width, groups=(1, groups)))[0] == step


def test_parts_that_share_every_layer_may_be_cut_anyhow() -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 28, 1), nn.Conv2d(28, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            left, right = self.first(x).split((12, 16), 1)
            return self.last(torch.cat((left.relu(), right), 1))

    assert steps(Parts()) == [TileStep(1, 1)] * 2


def test_what_no_convolution_meets_fills_rows_of_memory() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Parameter(torch.randn(3, 24)), nn.Parameter(torch.randn(24, 2))

        def forward(self, x: Tensor) -> Tensor:
            return (x.flatten(2).transpose(1, 2) @ self.first).relu() @ self.second

    assert steps(Table()) == [TileStep(8, 8)]


def test_options_are_multiples_of_the_step_and_the_whole() -> None:
    for name in ("residual_bottlenecks", "grouped_resnext", "shufflenet_unit_view", "c2f_chunk", "lstm"):
        network = search_of(name)
        for step, options, size in zip(network.steps, network.options, network.full, strict=True):
            assert options.tolist() == [*range(step.step, size, step.step), size]
