"""The sensitivity of outputs to each unit."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from smartc.analysis.analyse import analysed
from smartc.frontend.capture import trace
from smartc.ir.traced_model import TracedModel
from smartc.learning.objectives.distillation import Distillation
from smartc.learning.objectives.sensitivity import sensitivity
from smartc.learning.statistics.input_energy import recorded
from smartc.masks.granularity import ChannelGranularity, Granularity, parse_granularity
from smartc.masks.units import Units, find_units
from smartc.targets.target import load_target


class Curved(nn.Module):
    """Two convolutions without padding, and one number per sample that is no logit."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(functional.relu(self.first(x))).square().mean((1, 2, 3)).unsqueeze(1)


def _units(model: TracedModel, granularity: Granularity) -> Units:
    return find_units(model, analysed(model), granularity)


def _sensitivity(model: TracedModel, units: Units, x: torch.Tensor) -> torch.Tensor:
    distillation = Distillation.of(model).fitted([model.run((x,))])
    singles = [(one[None],) for one in x]
    return torch.from_numpy(sensitivity(model, units, distillation, recorded(model, singles), singles))


def test_it_is_the_squared_slope_of_a_mask_on_what_varies() -> None:
    torch.manual_seed(0)
    module, x = Curved().double().eval(), torch.randn(2, 3, 9, 9, dtype=torch.float64)
    model = trace(module, x)
    units = _units(model, ChannelGranularity())
    # Of one sample the noise of the answer is common to all units.
    found = _sensitivity(model, units, x[:1])
    mask = torch.ones(6, dtype=torch.float64, requires_grad=True)
    seen = functional.relu(module.first(x[:1])).detach()
    mean = seen.mean((0, 2, 3), keepdim=True)
    masked = mean + mask.reshape(1, -1, 1, 1) * (seen - mean)
    (slope,) = torch.autograd.grad(module.second(masked).square().mean(), mask)
    torch.testing.assert_close(found / found.sum(), slope.square() / slope.square().sum(), rtol=1e-9, atol=0)


def test_outputs_are_not_sensitive_to_a_channel_that_does_not_vary() -> None:
    torch.manual_seed(1)
    module, x = Curved().eval(), torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        module.first.weight[2] = 0
        module.first.bias[2] = 3.0
    model = trace(module, x)
    found = _sensitivity(model, _units(model, ChannelGranularity()), x)
    assert found[2] <= 1e-8 * found.max()
    assert int((found > 1e-4 * found.max()).sum()) == 5


@pytest.mark.parametrize("granularity", ["channel", "8x8", "2:4"])
def test_logits_are_sensitive_to_what_reaches_them_and_the_model_stays_as_it_was(granularity: str) -> None:
    torch.manual_seed(2)
    module = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 4)).eval()
    x = torch.randn(8, 32)
    with torch.no_grad():
        module[2].weight[:, :8] = 0  # nothing reads the first eight of 64
    model = trace(module, x)
    wanted = [parameter.requires_grad for parameter in module.parameters()]
    before = torch.random.get_rng_state()
    units = _units(model, parse_granularity(granularity, load_target("npu-8x8")))
    found = _sensitivity(model, units, x)
    if granularity == "channel":
        assert torch.equal(found == 0, torch.arange(len(found)) < 8)
    else:
        alive = {name: torch.ones_like(parameter) for name, parameter in module.named_parameters()}
        alive["0.weight"][:8] = alive["2.weight"][:, :8] = 0
        reached = torch.cat([weight.layout.sums(alive[weight.name].double()) for weight in units.weights])
        assert torch.equal(found == 0, reached == 0)
    assert [parameter.requires_grad for parameter in module.parameters()] == wanted
    assert all(parameter.grad is None for parameter in model.graph_module.parameters())
    assert torch.equal(torch.random.get_rng_state(), before)
