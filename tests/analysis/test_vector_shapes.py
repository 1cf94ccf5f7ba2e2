"""Work on the vector unit: windows, copies, comparisons, and gathers that only move channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smartc.analysis.analyse import analysed
from smartc.analysis.find_layers import Layers
from smartc.frontend.capture import trace
from smartc.targets.latency import LayerCosts
from smartc.targets.target import load_target
from tests.support.zoo.blocks import Apply

NPU = load_target("npu-8x8")


def priced(module: nn.Module, inputs: Any) -> tuple[Layers, LayerCosts]:
    """Return the layers of a network and what they cost."""
    layers = analysed(trace(module.eval(), inputs))
    return layers, NPU.price(layers.workload(NPU, layers.full_sizes))


def image() -> Tensor:
    """Return an image of 16 channels."""
    return torch.randn(1, 16, 8, 8)


WORK: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "max_pool": (lambda x: nn.functional.max_pool2d(x, 3, 1, 1), 16 * 64 * 9),
    "avg_pool": (lambda x: nn.functional.avg_pool2d(x, (2, 4)), 16 * 8 * 8),
    "adaptive": (lambda x: nn.functional.adaptive_avg_pool2d(x, 3), 16 * (3 + 4 + 3) ** 2),
    "nearest": (lambda x: nn.functional.interpolate(x, scale_factor=2.0), 16 * 256),
    "bilinear": (lambda x: nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear"), 16 * 256 * 4),
    "comparison": (lambda x: x > 0, 16 * 64),
    "strided slice": (lambda x: x[:, :, ::2], 16 * 64),
    "cast": (lambda x: x.to(torch.float64), 16 * 64),
    "clone": (lambda x: x.clone(), 16 * 64),
    "cat": (lambda x: torch.cat([x, x], 1), 32 * 64),
}


@pytest.mark.parametrize("name", WORK)
def test_lanes_work_for_every_element_and_tap(name: str) -> None:
    function, operations = WORK[name]
    _, costs = priced(Apply(function), image())
    assert costs.compute.tolist() == [operations / NPU.vector.lanes]


@pytest.mark.parametrize("function", [lambda x: x[:, 2:9], lambda x: x.to(torch.float32), lambda x: x.flatten(1)])
def test_what_moves_nothing_is_free(function: Callable[[Tensor], Tensor]) -> None:
    layers, _ = priced(Apply(function), image())
    assert layers.rows == ()


def test_a_permutation_of_channels_costs_a_permutation() -> None:
    order = torch.arange(16).flip(0)
    found = [
        priced(Apply(function), image())[1].total.tolist()
        for function in (lambda x: x[:, order], lambda x: x.index_select(1, order), lambda x: x.permute(0, 1, 3, 2))
    ]
    assert found[0] == found[1] == found[2]


def test_a_gather_by_an_index_that_is_computed_is_the_hosts() -> None:
    class Gather(nn.Module):
        def forward(self, x: Tensor, index: Tensor) -> Tensor:
            return x.index_select(1, index[0])

    _, costs = priced(Gather(), (image(), torch.zeros(1, 16, dtype=torch.int64)))
    assert costs.compute[-1] > 16 * 64 / NPU.vector.lanes


def test_the_output_stage_of_a_transposed_convolution_writes_its_output() -> None:
    _, costs = priced(nn.ConvTranspose2d(16, 8, 2, 2), image())
    assert costs.output.tolist() == [256 * 8 / 8]
    assert costs.macs.tolist() == [64 * 4 * 16 * 8]
