"""Regions without gradients and with another autocast become part of the graph, which computes what it did."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import smartc
from smartc.passes.inline_regions import InlineRegions
from tests.support.oracle import TOLERANCE, assert_equals_masked, relative_error
from tests.support.raw_model import operators, raw, run_pure


class Regions(nn.Module):
    """Rotary factors as decoders compute them: without gradients, in full precision, between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 64), nn.Linear(64, 8)
        self.register_buffer("rates", torch.linspace(0.1, 1, 8))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 8) to (N, 8)."""
        hidden = torch.relu(self.first(x))
        with torch.no_grad():
            turned = self.rates * 2
            with torch.autocast("cpu", enabled=False):
                factor = turned.cos().mean()
            with torch.enable_grad():
                shift = turned.sin().mean()
        return self.second(hidden * factor + hidden * shift)


class Autocast(nn.Module):
    """A product in bfloat16 between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 64), nn.Linear(64, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 8) to (N, 8)."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = torch.relu(self.first(x))
        return self.second(hidden.float())


class Weights(nn.Module):
    """A region that returns one value and reads a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 8) to (N, 8)."""
        with torch.no_grad():
            scale = self.layer.weight.abs().amax()
        return self.layer(x) / scale


@pytest.mark.parametrize("kind", [Regions, Weights])
def test_computes_what_it_did(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    module, x = kind().eval(), torch.randn(3, 8)
    result = run_pure(InlineRegions(), raw(module, x))
    assert result.modified
    assert not [name for name in operators(result.model) if name.startswith("wrap")]
    assert relative_error(module(x), result.model.run((x,))) <= 1e-6


def test_a_model_without_regions_stays_as_it_is() -> None:
    result = run_pure(InlineRegions(), raw(nn.Linear(4, 4).eval(), torch.randn(2, 4)))
    assert not result.modified


def test_no_gradient_flows_into_a_region() -> None:
    torch.manual_seed(0)
    module, x = Weights().train(), torch.randn(3, 8)
    flat = InlineRegions().run(raw(module, x)).model.graph_module
    flat(x).sum().backward()
    found = {name: parameter.grad for name, parameter in flat.named_parameters()}
    module.zero_grad()
    module(x).sum().backward()
    expected = module.layer.weight.grad
    assert expected is not None
    assert relative_error(expected, found["layer.weight"]) <= TOLERANCE * 1e5


@pytest.mark.parametrize("double", [False, True])
def test_channels_beside_a_region_are_removed(double: bool) -> None:
    torch.manual_seed(0)
    module, x = Regions().eval(), torch.randn(2, 8)
    if double:
        module, x = module.double(), x.double()
    compiled = smartc.compile(module, x, target="npu-8x8", sparsity=0.5, backends=("pt2", "onnx"))
    assert compiled.report.summary.removed_channels == 32
    assert_equals_masked(module, (x,), compiled)


def test_autocast_is_told() -> None:
    torch.manual_seed(0)
    compiled = smartc.compile(Autocast().eval(), torch.randn(2, 8), target="npu-8x8", sparsity=0.5)
    texts = [remark.text for remark in compiled.report.remarks]
    assert "computes in the types of its parameters what autocast computes in bfloat16" in texts
    assert compiled.report.summary.removed_channels == 32
