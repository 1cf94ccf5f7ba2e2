"""Energy: what a channel is expected to bring to its readers agrees with what it brings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from smartc.analysis.find_channel_groups import find_channel_groups
from smartc.frontend.capture import trace
from smartc.selection.channel_energy import Moments, _through, unit_energy
from tests.support.recurrent_networks import build as recurrent_network
from tests.support.zoo import CASES, build


def _network() -> nn.Sequential:
    """Return a network whose batch norm has channels of very different size."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 1), nn.BatchNorm2d(8))
    norm = network[1]
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.1, 2, 16))
        norm.bias.copy_(torch.linspace(1, -1, 16))
    return network


def test_agrees_with_what_random_inputs_bring() -> None:
    network = _network().double()
    inputs = torch.randn(64, 3, 12, 12, dtype=torch.float64)
    network.train()
    for _ in range(200):
        network(inputs)
    network.eval()
    model = trace(network, inputs[:2])
    groups = find_channel_groups(model)
    expected = unit_energy(model, groups)[groups.groups[0].units]
    with torch.no_grad():
        between = network[:3](inputs)
        second = between.square().mean(dim=(0, 2, 3))
        reader, norm = network[3], network[4]
        scale = norm.weight.square() / (norm.running_var + norm.eps)
        brought = (scale[:, None] * reader.weight[:, :, 0, 0].square()).sum(0) * second
    assert np.allclose(expected, brought.numpy(), rtol=0.15)


def test_channels_without_effect_have_none() -> None:
    network = _network()
    norm = network[1]
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        norm.weight[:4] = 0
        norm.bias[:4] = 0
    model = trace(network.eval(), torch.randn(2, 3, 12, 12))
    groups = find_channel_groups(model)
    energy = unit_energy(model, groups)[groups.groups[0].units]
    assert set(np.argsort(energy)[:4].tolist()) == {0, 1, 2, 3}


def test_moments_of_relu_are_the_known_ones() -> None:
    found = _through(torch.relu, Moments(np.zeros(1), np.ones(1)))
    # E[relu(x)] = 1 / sqrt(2 pi) and E[relu(x)^2] = 1 / 2 for a standard normal x.
    assert found.mean[0] == pytest.approx(1 / np.sqrt(2 * np.pi), rel=0.05)
    assert found.second[0] == pytest.approx(0.5, rel=1e-9)


def test_group_norms_set_the_size_of_what_follows_however_deep_the_network_is() -> None:
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.GroupNorm(2, 16), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()) for _ in range(60)]
    for block in blocks:
        nn.init.normal_(block[1].weight)
    network = nn.Sequential(nn.Conv2d(3, 16, 3), *blocks, nn.Conv2d(16, 8, 1))
    model = trace(network.eval(), torch.randn(2, 3, 12, 12))
    energy = unit_energy(model, find_channel_groups(model))
    assert np.isfinite(energy).all()
    assert energy.max() < 1e4 * energy.min()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CASES)[::3])
def test_is_a_number_for_every_unit_of_any_network(name: str) -> None:
    module, inputs = build(name)
    model = trace(module, inputs)
    groups = find_channel_groups(model)
    energy = unit_energy(model, groups)
    assert energy.shape == (groups.count,)
    assert np.isfinite(energy).all()
    assert (energy >= 0).all()


def test_recurrent_weights_read_channels_and_hidden_units() -> None:
    module, x = recurrent_network("gru_without_bias")
    model = trace(module, x)
    groups = find_channel_groups(model)
    energy = unit_energy(model, groups)
    found = {group.name: energy[group.units] for group in groups.groups}
    state = {name: weight.detach().square().sum(0).numpy() for name, weight in module.named_parameters()}
    assert np.allclose(found["embed"], state["recurrent.weight_ih_l0"])
    lower = state["recurrent.weight_hh_l0"] + state["recurrent.weight_ih_l1"]
    assert np.allclose(found["recurrent.weight_ih_l0"], lower)
    assert np.allclose(found["recurrent.weight_ih_l1"], state["recurrent.weight_hh_l1"] + state["head.weight"])
