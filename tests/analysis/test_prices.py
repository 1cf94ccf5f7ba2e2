"""Live tiles by layer: what each layer's own weight has, and what that costs."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import smartc
from smartc.analysis.analyse import analysed
from smartc.analysis.find_layers import Layers
from smartc.analysis.prices import live_by_layer, patterned_layers, price_layers
from smartc.frontend.capture import trace
from smartc.ir.traced_model import TracedModel
from smartc.targets.target import load_target
from tests.support.random_layers import changed
from tests.support.zero_tiles import with_zero_tiles

NPU, DENSE = load_target("npu-8x8"), load_target("npu-8x8-dense")


class EveryUse(nn.Module):
    """Read weights in each way that there is, one of them twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.twice = nn.Conv2d(16, 32, 3, padding=1), nn.Conv2d(32, 32, 1)
        self.deep = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.up = nn.ConvTranspose2d(32, 24, 2, 2)
        self.grouped = nn.Conv2d(24, 32, 1, groups=2)
        self.matrix = nn.Parameter(torch.randn(32, 20))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 16, H, W) to (N, 20)."""
        x = self.twice(self.deep(self.twice(self.conv(x)).relu()).relu())
        return self.grouped(self.up(x)).mean(dim=(2, 3)) @ self.matrix


@cache
def network() -> tuple[TracedModel, Layers]:
    """Return the network and its layers."""
    torch.manual_seed(0)
    model = trace(EveryUse().eval(), torch.randn(2, 16, 6, 6))
    return model, analysed(model)


def counted(model: TracedModel) -> dict[str, int]:
    """Return the live tiles by layer, where there are any to count."""
    layers = network()[1]
    live = live_by_layer(model, layers, NPU)
    return {row.name: int(count) for row, count in zip(layers.rows, live, strict=True) if count >= 0}


def test_counts_the_tiles_of_each_layer() -> None:
    model, _ = network()
    # Output tiles times input tiles times kernel positions, by hand; in the grouped one for both groups.
    whole = {"conv": 72, "twice": 16, "twice#2": 16, "up": 48, "grouped": 8, "matmul": 12}
    assert counted(model) == whole
    fewer = model.tensor("conv.weight").detach().clone()
    fewer[:8, :8, 1, 2] = fewer[24:, 8:, 0, 0] = 0
    fewer[8:16, 3, 0, 0] = 0
    once = model.tensor("twice.weight").detach().clone()
    once[:, 8:16] = 0
    changed = model.with_tensors({"conv.weight": fewer, "twice.weight": once, "matrix": torch.zeros(32, 20)})
    assert counted(changed) == whole | {"conv": 70, "twice": 12, "twice#2": 12, "matmul": 0}


def test_what_has_no_tiles_is_told_apart_from_what_has_none_left() -> None:
    model, layers = network()
    live = dict(zip([row.name for row in layers.rows], live_by_layer(model, layers, NPU), strict=True))
    assert live["deep"] == -1


@pytest.mark.parametrize("target", [NPU, DENSE], ids=["skips", "dense"])
def test_a_dense_model_costs_what_it_does(target: object) -> None:
    assert target in (NPU, DENSE)
    device = NPU if target is NPU else DENSE
    model, layers = network()
    expected = device.price(layers.workload(device, layers.full_sizes)).total
    assert np.array_equal(price_layers(model, layers, device).total, expected)


def test_more_zero_tiles_never_cost_more() -> None:
    model, layers = network()
    last = price_layers(model, layers, NPU).total
    dense = price_layers(model, layers, DENSE).total
    for share in (0.2, 0.5, 0.8, 1.0):
        # The same seed: what is zero at a share is so at every larger one.
        fewer = with_zero_tiles(model, share, (8, 8), seed=3)
        now = price_layers(fewer, layers, NPU).total
        assert (now <= last).all()
        assert np.array_equal(price_layers(fewer, layers, DENSE).total, dense)
        last = now
    assert last.sum() < price_layers(model, layers, NPU).total.sum()
    assert np.isfinite(last).all()


def with_pattern(model: TracedModel, names: tuple[str, ...]) -> TracedModel:
    """Return a model in which every second and third of four input channels of some weights is zero."""
    weights = {name: model.tensor(name).detach().clone() for name in names}
    for weight in weights.values():
        weight[:, 1::4] = weight[:, 2::4] = 0
    return model.with_tensors(weights)


def test_a_pattern_is_faster_where_the_target_says_so() -> None:
    model, layers = network()
    device = changed(DENSE, sparsity__nm="2:4", sparsity__nm_gain=1.73, memory__dram_bytes_per_cycle=1000.0)
    device = changed(device, output__per_cycle=replace(device.output.per_cycle, none=1000.0, relu=1000.0))
    cut = with_pattern(model, ("conv.weight",))
    before, after = (price_layers(one, layers, device) for one in (model, cut))
    assert patterned_layers(cut, layers, "2:4").tolist() == [row.name == "conv" for row in layers.rows]
    assert not patterned_layers(model, layers, "2:4").any()
    assert after.compute[0] == pytest.approx(before.compute[0] / 1.73)
    # Two of four weights, and for each two bits that say which.
    assert after.weight_bytes[0] == before.weight_bytes[0] // 2 * 10 // 8
    assert (after.total[1:] == before.total[1:]).all()
    assert (price_layers(cut, layers, DENSE).total == price_layers(model, layers, DENSE).total).all()


def test_a_compile_by_the_pattern_of_its_target_saves_time() -> None:
    torch.manual_seed(0)
    device = changed(DENSE, sparsity__nm="2:4", sparsity__nm_gain=1.73)
    module = nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1)).eval()
    compiled = smartc.compile(module, torch.randn(2, 32, 8, 8), target=device, granularity="2:4", backends=())
    report = compiled.report
    assert report.latency.speed_up > 1.5
    assert [layer.decision for layer in report.layers] == ["n:m", "n:m"]
    assert report.summary.weight_bytes.compiled == pytest.approx(report.summary.weight_bytes.dense * 0.625, rel=0.01)
    assert not [remark for remark in report.remarks if "no faster way" in remark.text]
