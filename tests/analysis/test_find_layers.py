"""Layers: what is fused, what they cost, and that their sizes follow the kept counts exactly."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from smartc.analysis.find_channel_groups import find_channel_groups
from smartc.analysis.find_layers import Layers, find_layers
from smartc.frontend.capture import trace
from smartc.ir.traced_model import TracedModel
from smartc.passes.remove_channels import RemoveChannels
from smartc.selection.choose import KeptOptions
from smartc.targets.latency import LayerCosts
from smartc.targets.target import load_target
from smartc.targets.workload import OpKind
from tests.support import torchvision_models
from tests.support.zoo import build

# Products of two activations and gathers are priced by the sizes that they have in the whole network.
EXACT = (
    "plain_chain conv1d_audio conv3d_video dcgan_generator squeeze_excite_linear inverted_residual "
    "depthwise_multiplier grouped_resnext grouped_transposed residual_bottlenecks residual_preactivation "
    "dense_concat unet_transposed c2f_chunk shufflenet_unit_view split_attention temporal_shift"
).split()
OTHERS = "vision_transformer shifted_windows einsum_convolution slice_every_second lstm returns_its_input".split()


@cache
def traced(name: str) -> tuple[TracedModel, Layers]:
    """Return one network of the zoo and its layers."""
    module, inputs = build(name, dtype=torch.float32)
    model = trace(module, inputs)
    return model, find_layers(model, find_channel_groups(model))


def layers_of(module: nn.Module, inputs: Any) -> Layers:
    """Return the layers of a module."""
    model = trace(module.eval(), inputs)
    return find_layers(model, find_channel_groups(model))


def rows(layers: Layers) -> list[tuple[str, str, list[str], bool, int]]:
    """Return the name, operator, fused operators, residual and activation of each layer."""
    return [
        (row.name, row.op, [str(node.target).split(".")[1] for node in row.fused], row.residual, row.activation)
        for row in layers.rows
    ]


def dense(layers: Layers, target: str = "npu-8x8") -> LayerCosts:
    """Return what the layers cost when nothing is removed."""
    device = load_target(target)
    return device.price(layers.workload(device, layers.full_sizes))


def operations(module: nn.Module, inputs: Any) -> int:
    """Return the floating-point operations that torch counts."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs)
    return int(counter.get_total_flops())


def image(channels: int = 3) -> Tensor:
    """Return two small images."""
    return torch.randn(2, channels, 8, 8)


def test_a_norm_and_an_activation_are_done_with_the_convolution_before_them() -> None:
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 1), nn.SiLU())
    assert rows(layers_of(network, image())) == [
        ("0", "conv2d", ["batch_norm", "relu"], False, 1),
        ("3", "conv2d", ["silu"], False, 2),
    ]


class Sum(nn.Module):
    """A residual block whose shortcut is a convolution that runs first or last."""

    def __init__(self, shortcut_first: bool) -> None:
        super().__init__()
        self.body, self.shortcut = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(3, 16, 1)
        self.norm, self.shortcut_first = nn.BatchNorm2d(16), shortcut_first

    def forward(self, x: Tensor) -> Tensor:
        if self.shortcut_first:
            shortcut = self.shortcut(x)
            return (self.norm(self.body(x)) + shortcut).relu()
        body = self.norm(self.body(x))
        return (body + self.shortcut(x)).relu()


def test_an_addition_is_done_with_the_later_of_the_layers_that_it_adds() -> None:
    assert rows(layers_of(Sum(shortcut_first=True), image())) == [
        ("shortcut", "conv2d", [], False, 0),
        ("body", "conv2d", ["batch_norm", "add", "relu"], True, 1),
    ]
    assert rows(layers_of(Sum(shortcut_first=False), image())) == [
        ("body", "conv2d", ["batch_norm"], False, 0),
        ("shortcut", "conv2d", ["add", "relu"], True, 1),
    ]


def test_an_addition_that_broadcasts_is_a_layer_of_its_own() -> None:
    class Broadcast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.gate = nn.Conv2d(3, 16, 1), nn.Conv2d(3, 16, 8)

        def forward(self, x: Tensor) -> Tensor:
            gate = self.gate(x)
            return self.body(x) + gate

    found = rows(layers_of(Broadcast(), image()))
    assert [(op, fused) for _, op, fused, _, _ in found] == [("conv2d", []), ("conv2d", []), ("add", [])]


def test_a_norm_before_its_convolution_runs_alone() -> None:
    class PreActivation(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.norm = nn.Conv2d(3, 16, 1), nn.BatchNorm2d(16)
            self.conv = nn.Conv2d(16, 16, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return x + self.conv(self.norm(x).relu())

    assert rows(layers_of(PreActivation(), image())) == [
        ("stem", "conv2d", [], False, 0),
        ("norm", "batch_norm", ["relu"], False, 1),
        ("conv", "conv2d", ["add"], True, 0),
    ]


def test_kinds_tell_depthwise_from_grouped_convolutions() -> None:
    network = nn.Sequential(
        nn.Conv2d(16, 16, 3, groups=16),
        nn.Conv2d(16, 32, 3, groups=16),
        nn.Conv2d(32, 32, 1, groups=4),
        nn.Conv2d(32, 8, 1),
        nn.Flatten(),
        nn.Linear(128, 10),
    )
    layers = layers_of(network, image(16))
    depthwise, matrix = OpKind.DEPTHWISE, OpKind.MATRIX
    assert [row.shape.kind for row in layers.rows] == [depthwise, depthwise, matrix, matrix, matrix]
    assert [row.shape.groups for row in layers.rows] == [16, 16, 4, 1, 1]


def test_what_does_not_depend_on_the_input_costs_nothing() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.scale = nn.Parameter(torch.randn(8, 3, 1, 1)), nn.Parameter(torch.randn(8, 1, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return torch.conv2d(x, self.weight * self.scale)

    assert [op for _, op, _, _, _ in rows(layers_of(Constant(), image()))] == ["conv2d"]


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_multiply_accumulates_are_half_the_operations_that_torch_counts(name: str) -> None:
    module, inputs = build(name, dtype=torch.float32)
    # The example is a batch of two.
    assert 2 * 2 * int(dense(traced(name)[1]).macs.sum()) == operations(module, inputs)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_multiply_accumulates_of_known_networks(name: str) -> None:
    module, inputs = torchvision_models.build(name, dtype=torch.float32)
    assert 2 * 2 * int(dense(layers_of(module, inputs)).macs.sum()) == operations(module, inputs)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*EXACT, *OTHERS])
def test_all_channels_are_counted_and_every_layer_has_a_name(name: str) -> None:
    _, layers = traced(name)
    reads, writes = layers.full_sizes
    assert reads.tolist() == [len(row.shape.reads) for row in layers.rows]
    assert writes.tolist() == [len(row.shape.writes) for row in layers.rows]
    assert len({row.name for row in layers.rows}) == len(layers.rows)
    cost = dense(layers)
    assert cost.total_ms == pytest.approx(float(cost.total.sum()) / cost.frequency_hz * 1e3)


@pytest.mark.parametrize("target", ["npu-8x8", "npu-16x16-dense"])
@pytest.mark.parametrize("name", EXACT)
def test_times_are_those_of_the_network_when_it_is_really_cut(name: str, target: str) -> None:
    model, layers = traced(name)
    generator = np.random.default_rng(len(name))
    search = KeptOptions(layers, load_target(target), generator.random(layers.groups.count))
    for _ in range(2):
        kept = generator.integers(np.minimum(2, search.full), search.full + 1)
        smaller = RemoveChannels(layers.groups, search.kept_units(kept)).run(model).model
        cut = find_layers(smaller, find_channel_groups(smaller))
        actual = dict(zip((row.name for row in cut.rows), dense(cut, target).total, strict=True))
        assert actual == dict(zip((row.name for row in layers.rows), search.latency(kept).total, strict=True))


def test_a_layer_without_channels_to_remove_is_as_large_as_ever() -> None:
    layers = layers_of(nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 4, 1)), image())
    reads, writes = layers.sizes(np.array([[16], [5]]))
    assert reads.tolist() == [[3, 16], [3, 5]]
    assert writes.tolist() == [[16, 4], [5, 4]]


def test_touched_layers_are_listed_by_group_with_their_neighbours() -> None:
    network = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 24, 1), nn.Conv2d(24, 8, 1), nn.Conv2d(8, 4, 1))
    touched = layers_of(network, image()).touched
    pairs = zip(touched.groups, touched.rows, touched.reads, touched.writes, strict=True)
    assert [tuple(map(int, pair)) for pair in pairs] == [
        (0, 0, 0, 1),
        (0, 1, 1, 0),
        (1, 1, 0, 1),
        (1, 2, 1, 0),
        (2, 2, 0, 1),
        (2, 3, 1, 0),
    ]
    assert touched.entries(np.array([2, 0])).tolist() == [4, 5, 0, 1]
    assert [touched.neighbours(group).tolist() for group in range(3)] == [[0, 1], [0, 1, 2], [1, 2]]


def test_a_module_that_is_called_often_gives_layers_of_different_names() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.step = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(4):
                x = self.step(x)
            return x

    assert [row.name for row in layers_of(Loop(), image()).rows] == ["step", "step#2", "step#3", "step#4"]
