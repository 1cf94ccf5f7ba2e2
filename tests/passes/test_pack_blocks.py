"""Packing is decided by the zeros that a weight has, for every way in which a call can read it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from smartc.analysis.weight_use import WeightUse, weight_use
from smartc.frontend.capture import trace
from smartc.passes.pack_blocks import pack_blocks
from smartc.targets.target import load_target
from tests.support.zero_tiles import with_zero_tiles

NPU = load_target("npu-8x8")


class EveryUse(nn.Module):
    """Reads a weight in each way that there is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 32, 3, padding=1)
        self.grouped = nn.Conv2d(32, 32, 3, padding=1, groups=2)
        self.depthwise = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.up = nn.ConvTranspose2d(32, 32, 2, 2, groups=2)
        self.linear = nn.Linear(32, 64)
        self.matrix = nn.Parameter(torch.randn(64, 32))
        self.tied = nn.Parameter(torch.randn(32, 32))

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(self.depthwise(self.grouped(self.conv(x)))).mean(dim=(2, 3))
        x = self.linear(x) @ self.matrix
        return nn.functional.linear(x @ self.tied, self.tied)


MODEL = trace(EveryUse().eval(), torch.randn(2, 16, 8, 8))


def test_finds_how_each_call_reads_its_weight() -> None:
    uses = [use for use in (weight_use(MODEL, node) for node in MODEL.calls()) if use is not None]
    assert uses == [
        WeightUse("conv.weight", 1, False),
        WeightUse("grouped.weight", 2, False),
        WeightUse("up.weight", 2, True),
        WeightUse("linear.weight", 1, False),
        WeightUse("matrix", 1, True),
        WeightUse("tied", 1, True),
        WeightUse("tied", 1, False),
    ]


def test_packs_what_has_zero_tiles_and_says_why_not() -> None:
    model = with_zero_tiles(MODEL, 0.6, (8, 8))
    model.set_tensor("linear.weight", torch.ones(64, 32))
    packed = pack_blocks(model, NPU)
    assert packed.weights.keys() == {"conv.weight", "grouped.weight", "up.weight", "matrix"}
    for name, weight in packed.weights.items():
        assert torch.equal(weight.unpack(), model.tensor(name))
    texts = {remark.where: remark.text for remark in packed.remarks}
    assert texts["linear"] == "its zero tiles are stored: leaving them out would save less than 10% of its bytes"
    assert texts["matmul_1"] == "stays dense: tied is also used in another way"
    assert texts["conv"] == "its zero tiles are left out of the files"


def test_takes_the_tile_of_the_target() -> None:
    model = with_zero_tiles(MODEL, 0.8, (16, 16))
    assert pack_blocks(model, load_target("npu-16x16")).weights["conv.weight"].order.tile == (16, 16)


def test_packs_nothing_without_zeros() -> None:
    assert not pack_blocks(MODEL, NPU).weights
