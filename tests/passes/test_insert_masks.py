"""InsertMasks and RemoveMasks: in and out is the same graph, and a hard mask is a weight with zeros."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from smartc.analysis.analyse import analysed
from smartc.analysis.channels.channel_groups import surviving
from smartc.frontend.capture import trace
from smartc.ir.traced_model import Remark, TracedModel
from smartc.kernels import tensor_pool as rooms
from smartc.learning.learners.squares import measured_weights
from smartc.masks.granularity import parse_granularity
from smartc.masks.layouts import Channels, MaskLayout, Pattern, Tiles
from smartc.masks.masked_weight import MaskedWeight
from smartc.masks.units import Units, find_units
from smartc.passes.insert_masks import MASKS, InsertMasks, MaskedInputs, RemoveMasks
from smartc.passes.remove_channels import RemoveChannels
from smartc.passes.shared.base import run_passes
from smartc.targets.target import load_target
from tests.support.oracle import TOLERANCE, masked_original, relative_error
from tests.support.raw_model import run_pure
from tests.support.small_networks import Tied
from tests.support.zoo import build

NPU = load_target("npu-8x8")
NETWORKS = (
    "tied_convolutions module_called_twice grouped_resnext tied_autoencoder multihead_attention unet_transposed"
    " weight_norm_hook lstm"
).split()
KINDS = ("channel", "2x4", "4x2/shared", "2:4")


class Given(nn.Module):
    """Return a mask that does not depend on what is measured."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = mask

    def forward(self, *weights: Tensor) -> Tensor:
        """Return the mask."""
        return self.mask


@cache
def network(name: str) -> tuple[nn.Module, tuple[Any, ...], TracedModel]:
    """Return one network of the zoo in float64, its inputs, and what was captured."""
    module, inputs = build(name)
    return module, inputs, trace(module, inputs)


@cache
def units_of(name: str, kind: str) -> Units:
    """Return the units of a network."""
    model = network(name)[2]
    return find_units(model, analysed(model), parse_granularity(kind, NPU))


def inserted(model: TracedModel, units: Units, mask: Tensor) -> TracedModel:
    """Return the model with a given mask in its graph."""
    return run_pure(InsertMasks(units.weights, Given(mask), measured_weights(units)), model).model


def random_keep(units: Units, seed: int = 0) -> np.ndarray:
    """Return half of the units."""
    return np.random.default_rng(seed).random(units.count) < 0.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_in_and_out_again(name: str, kind: str) -> None:
    _, inputs, model = network(name)
    units, keep = units_of(name, kind), random_keep(units_of(name, kind))
    expected = model.run(inputs)
    whole = inserted(model, units, torch.ones(units.count))
    assert relative_error(expected, whole.run(inputs)) <= TOLERANCE
    hard = inserted(model, units, torch.from_numpy(keep.astype(np.float32)))
    zeros = {place: model.tensor(place).detach() * kept for place, kept in units.supports(keep).items()}
    assert relative_error(model.with_tensors(zeros).run(inputs), hard.run(inputs)) <= TOLERANCE
    back = run_pure(RemoveMasks(), hard).model
    assert back.graph_module.code == model.graph_module.code
    assert [child for child, _ in back.graph_module.named_modules() if child.startswith("smartc")] == []
    assert relative_error(expected, back.run(inputs)) == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_channel_masks_are_zeros_in_the_readers(name: str) -> None:
    module, inputs, model = network(name)
    groups, units = analysed(model).groups, units_of(name, "channel")
    keep = random_keep(units, 1)
    for group in groups.groups:
        keep[group.units[0]] = True
    plan: dict[str, Any] = {}
    for axis in groups.axes:
        entry = plan.setdefault(axis.name, {"shape": list(model.tensor(axis.name).shape), "axes": []})
        kept = np.flatnonzero(surviving(axis.units, keep)).tolist()
        entry["axes"].append({"axis": axis.axis, "role": axis.role, "kept": kept})
    with torch.no_grad():
        expected = masked_original(module, {"tensors": plan})(*inputs)
    hard = inserted(model, units, torch.from_numpy(keep.astype(np.float32)))
    assert relative_error(expected, hard.run(inputs)) <= TOLERANCE
    smaller = run_passes(model, (RemoveChannels(groups, keep),)).model
    assert relative_error(expected, smaller.run(inputs)) <= TOLERANCE


def test_a_tied_weight_is_masked_for_all_who_read_it() -> None:
    module, x = Tied().double(), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    model = trace(module, x)
    layout = Tiles((3, 3, 1, 1), 1, 1)
    mask = torch.rand(9, dtype=torch.float64, requires_grad=True)
    given = Given(mask)
    (name,) = {str(node.target) for node in model.graph.nodes if node.op == "get_attr"}
    masked = run_pure(InsertMasks((MaskedWeight(name, layout, 0),), given), model)
    assert masked.remarks == (Remark(name, "masked by 9 units", True),)
    own = (module.first.weight * mask.reshape(3, 3, 1, 1)).detach()
    expected = nn.functional.conv2d(nn.functional.conv2d(x, own).relu(), own)
    output = masked.model.graph_module(x)
    assert relative_error(expected, output.detach()) <= TOLERANCE
    output.square().sum().backward()
    assert mask.grad is not None
    step = 1e-6
    for unit in range(9):
        values = []
        for sign in (1, -1):
            given.mask = mask.detach().clone()
            given.mask[unit] += sign * step
            values.append(float(masked.model.graph_module(x).detach().square().sum()))
        assert float(mask.grad[unit]) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5, abs=1e-7)


def test_masks_of_two_axes_of_one_weight_multiply() -> None:
    model = trace(nn.Linear(4, 6).double(), torch.randn(2, 4, dtype=torch.float64))
    weights = tuple(
        MaskedWeight("weight", Channels((6, 4), axis, np.arange(size), 6), 0) for axis, size in ((0, 6), (1, 4))
    )
    mask, x = torch.rand(6, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    masked = run_pure(InsertMasks(weights, Given(mask)), model).model
    weight = model.tensor("weight").detach() * mask[:, None] * mask[:4]
    expected = nn.functional.linear(x, weight, model.tensor("bias").detach())
    assert relative_error(expected, masked.run((x,))) <= TOLERANCE
    assert run_pure(RemoveMasks(), masked).model.graph_module.code == model.graph_module.code


def test_masks_see_weights_as_they_are() -> None:
    model = trace(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)), torch.randn(2, 4))
    seen: list[Tensor] = []

    class Watching(nn.Module):
        """Note what it is given."""

        def forward(self, *weights: Tensor) -> Tensor:
            """Return a mask of zeros over all units of both weights."""
            seen.extend(weights)
            return torch.zeros(32)

    layout = Tiles((4, 4), 1, 1)
    weights = (MaskedWeight("0.weight", layout, 0), MaskedWeight("2.weight", layout, 16))
    masked = run_pure(InsertMasks(weights, Watching(), ("2.weight", "0.weight")), model).model
    output = masked.graph_module(torch.randn(2, 4))
    assert torch.equal(output, model.tensor("2.bias").expand(2, 4))
    for weight, name in zip(seen, ("2.weight", "0.weight"), strict=True):
        assert torch.equal(weight, model.tensor(name))


def test_there_may_be_nothing_to_mask_or_to_take_out() -> None:
    model = trace(nn.Sequential(nn.ReLU()), torch.randn(2, 4))
    result = run_pure(InsertMasks((), Given(torch.ones(0))), model)
    assert result.remarks == (Remark("masks", "there is nothing to mask"),)
    assert not hasattr(result.model.graph_module, MASKS)
    assert run_pure(RemoveMasks(), model).remarks == ()
    assert run_pure(RemoveMasks(), model).model.graph_module.code == model.graph_module.code


LAYERS: dict[str, tuple[nn.Module, tuple[int, ...], int]] = {
    "convolution": (nn.Conv2d(4, 6, 3), (4, 5, 5), 1),
    "grouped": (nn.Conv1d(6, 9, 2, groups=3), (6, 4), 1),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, groups=2), (4, 3, 3), 0),
    "linear": (nn.Linear(5, 7), (3, 5), 1),
}


@pytest.mark.parametrize("batch", [1, 40])
@pytest.mark.parametrize("name", LAYERS)
def test_masked_inputs_are_a_masked_weight(name: str, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever has fewer elements is multiplied; outputs and gradients are those of the other."""
    layer, shape, axis = LAYERS[name]
    layer = layer.double()
    size = layer.weight.shape[axis]
    model = trace(layer, torch.randn(2, *shape, dtype=torch.float64))
    layout = Channels(tuple(layer.weight.shape), axis, np.arange(size), size)
    mask = torch.rand(size, dtype=torch.float64, requires_grad=True)
    x = torch.randn(batch, *shape, dtype=torch.float64, requires_grad=True)
    masked = run_pure(InsertMasks((MaskedWeight("weight", layout, 0),), Given(mask)), model).model
    seen = []
    apply = Channels.apply_to_inputs
    monkeypatch.setattr(Channels, "apply_to_inputs", lambda self, *a: seen.append(1) or apply(self, *a))
    output = masked.graph_module(x)
    assert len(seen) == (x.numel() < layer.weight.numel())
    weight = layer.weight * mask.reshape([-1 if place == axis else 1 for place in range(layer.weight.ndim)])
    expected = torch.func.functional_call(layer, {"weight": weight}, (x,))
    assert relative_error(expected.detach(), output.detach()) <= TOLERANCE
    incoming = torch.randn_like(expected)
    own = torch.autograd.grad(output, (x, model.tensor("weight"), mask), incoming)
    for ours, theirs in zip(own, torch.autograd.grad(expected, (x, layer.weight, mask), incoming), strict=True):
        assert relative_error(theirs, ours) <= TOLERANCE


def test_inputs_of_a_layer_whose_weight_others_read_are_not_masked() -> None:
    model = trace(Tied().double(), torch.randn(2, 3, 4, 4, dtype=torch.float64))
    (name,) = {str(node.target) for node in model.graph.nodes if node.op == "get_attr"}
    weights = (MaskedWeight(name, Channels((3, 3, 1, 1), 1, np.arange(3), 3), 0),)
    masked = run_pure(InsertMasks(weights, Given(torch.rand(3))), model).model
    assert not any(isinstance(module, MaskedInputs) for module in masked.graph_module.modules())


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("layout", [Tiles((8, 6, 3), 4, 2), Tiles((8, 6, 3), 3, 4, False), Pattern((8, 6, 3), 2)])
def test_steps_that_use_memory_again_have_the_same_gradients(
    layout: MaskLayout, learns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the mask learns too, or serves as it is until others change it."""
    monkeypatch.setattr(rooms, "SMALLEST", 1)
    layer, generator = nn.Conv1d(6, 8, 3).double(), torch.Generator().manual_seed(9)
    model = trace(layer, torch.randn(2, 6, 5, dtype=torch.float64))
    mask = torch.rand(layout.count, generator=generator, dtype=torch.float64, requires_grad=learns)
    masked = run_pure(InsertMasks((MaskedWeight("weight", layout, 0),), Given(mask)), model).model
    total = torch.zeros_like(layer.weight)
    for step in range(4):
        if step == 2:
            with torch.no_grad():
                mask.mul_(0.5)
        x = torch.randn(4, 6, 5, generator=generator, dtype=torch.float64)
        masked.graph_module(x).square().sum().backward()
        weight = layer.weight.detach().clone().requires_grad_()
        product = layout.apply(weight, mask.detach())
        assert layer.bias is not None
        nn.functional.conv1d(x, product, layer.bias).square().sum().backward()
        assert weight.grad is not None
        total += weight.grad
    gradient = model.tensor("weight").grad
    assert gradient is not None
    assert relative_error(total, gradient) <= TOLERANCE
