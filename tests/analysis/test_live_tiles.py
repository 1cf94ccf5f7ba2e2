"""Live tiles: counted as the latency model counts all tiles, and as a slow count of the definition does."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from smartc.analysis.find_channel_groups import find_channel_groups
from smartc.analysis.find_layers import Layers, find_layers
from smartc.analysis.live_tiles import live_tiles
from smartc.analysis.weight_use import weight_use
from smartc.frontend.capture import trace
from smartc.ir.traced_model import TracedModel
from smartc.targets.target import Target, load_target
from smartc.targets.workload import OpKind
from tests.support.zoo import build

NPU = load_target("npu-8x8")
NETWORKS = (
    "conv1d_audio conv3d_video depthwise_multiplier grouped_resnext grouped_transposed unet_transposed"
    " squeeze_excite_linear vision_transformer"
).split()


def device(rows: int, cols: int, *, reduction: str = "channel", per_position: bool = True) -> Target:
    """Return a target with another array."""
    array = replace(NPU.array, rows=rows, cols=cols, reduction=reduction)
    return replace(NPU, array=array, sparsity=replace(NPU.sparsity, per_kernel_position=per_position))


@cache
def traced(name: str) -> tuple[TracedModel, Layers]:
    """Return one network of the zoo and its layers."""
    model = trace(*build(name, dtype=torch.float32))
    return model, find_layers(model, find_channel_groups(model))


def counted_slowly(weight: torch.Tensor, target: Target, groups: int, transposed: bool) -> int:
    """Return the live tiles of a weight, looking each tile up by its indices."""
    seen = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    seen = seen.transpose(1, 2) if transposed else seen
    rows, cols = target.array.rows, target.array.cols
    count = 0
    for part in seen:  # (out, in, positions)
        depth = part.permute(0, 2, 1)
        if not target.sparsity.per_kernel_position:
            depth = (depth != 0).any(dim=1, keepdim=True).expand(depth.shape)
        runs = depth.flatten(1)[None] if target.array.reduction == "im2col" else depth.transpose(0, 1)
        for run in runs:
            corners = itertools.product(range(0, run.shape[0], cols), range(0, run.shape[1], rows))
            count += sum(bool((run[i : i + cols, j : j + rows] != 0).any()) for i, j in corners)
    return count


@pytest.mark.parametrize("target", [NPU, device(16, 4), device(5, 3, reduction="im2col")], ids=["8", "16x4", "im2col"])
@pytest.mark.parametrize("name", NETWORKS)
def test_agrees_with_the_latency_model(name: str, target: Target) -> None:
    model, layers = traced(name)
    tiles = target.price(layers.workload(target, layers.full_sizes)).tiles
    found = 0
    for row, expected in zip(layers.rows, tiles, strict=True):
        use = weight_use(model, row.node)
        if use is not None and row.shape.kind == OpKind.MATRIX:
            weight = torch.ones(model.tensor(use.name).shape)
            assert live_tiles(weight, target, groups=use.groups, transposed=use.transposed) == expected, row.name
            found += 1
    assert found


@pytest.mark.parametrize("reduction", ["channel", "im2col"])
@pytest.mark.parametrize("per_position", [True, False])
@pytest.mark.parametrize("transposed", [False, True])
def test_counts_tiles_with_a_weight_that_is_not_zero(reduction: str, per_position: bool, transposed: bool) -> None:
    random = np.random.default_rng(1)
    for shape, groups in (((12, 9, 3, 2), 1), ((12, 5, 3), 3), ((7, 20), 1), ((8, 4, 1, 2, 2), 2), ((16, 16), 1)):
        target = device(*random.integers(1, 9, 2).tolist(), reduction=reduction, per_position=per_position)
        weight = torch.from_numpy(random.standard_normal(shape) * (random.random(shape) < 0.04))
        counted = live_tiles(weight, target, groups=groups, transposed=transposed)
        assert counted == counted_slowly(weight, target, groups, transposed)


def test_takes_flags_and_every_type() -> None:
    weight = torch.zeros(16, 16, 3, 3)
    weight[9, 0, 1, 1], weight[0, 0, 0, 0], weight[3, 3, 2, 2] = 1, -0.0, float("nan")
    for kind in (torch.bool, torch.float16, torch.bfloat16, torch.float64):
        assert live_tiles(weight.to(kind), NPU) == 2


def test_an_empty_weight_has_no_tiles() -> None:
    assert live_tiles(torch.zeros(0, 8, 3, 3), NPU) == 0
    assert live_tiles(torch.zeros(8, 0), NPU) == 0


def test_refuses_what_is_no_weight() -> None:
    with pytest.raises(ValueError, match=r"^a weight of shape \(6, 4\) has no 4 groups of channels$"):
        live_tiles(torch.zeros(6, 4), NPU, groups=4)
    with pytest.raises(ValueError, match=r"^a weight of shape \(6,\) has no 1 groups of channels$"):
        live_tiles(torch.zeros(6), NPU)
