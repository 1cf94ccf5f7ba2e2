"""Input energy: how much what each input channel of a weight sees varies, over all samples."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from smartc.frontend.capture import trace
from smartc.learning.statistics.input_energy import CONSTANT, input_energy
from tests.support.awkward_networks import READABLE

# The result is float32.
TOLERANCE = 1e-6


class EveryUse(nn.Module):
    """Read a weight in each way that there is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3, padding=1)
        self.grouped = nn.Conv2d(6, 6, 1, groups=2)
        self.deep = nn.Conv2d(6, 6, 3, groups=6)
        self.up = nn.ConvTranspose2d(6, 4, 2, 2)
        self.linear = nn.Linear(4, 8)
        self.matrix, self.added = nn.Parameter(torch.randn(8, 4)), nn.Parameter(torch.randn(4, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Map (N, 4, H, W) to (N, H', 3), and return what each weight sees."""
        seen = {"conv.weight": x.movedim(1, -1)}
        x = self.conv(x)
        seen["grouped.weight"] = x.movedim(1, -1)
        x = self.deep(self.grouped(x))
        seen["up.weight"] = x.movedim(1, -1)
        x = self.up(x).mean(3).transpose(1, 2)
        seen["linear.weight"] = x
        x = self.linear(x).tanh()
        seen["matrix"] = x
        x = x @ self.matrix
        seen["added"] = x = x.flatten(0, 1)
        return torch.addmm(x[:, :3], x, self.added), seen


def varying(values: Tensor) -> Tensor:
    """Return the energy of each column by definition."""
    values = values.double()
    return (values.var(0, correction=0) + CONSTANT * values.mean(0).square()).float()


def test_is_the_variance_over_samples_and_places() -> None:
    torch.manual_seed(0)
    module = EveryUse().eval()
    batches = [(torch.randn(count, 4, 5, 5),) for count in (3, 1, 2)]
    model = trace(module, batches[0])
    found = input_energy(model, batches)
    with torch.no_grad():
        seen = module(torch.cat([x for (x,) in batches]))[1]
    assert found.keys() == seen.keys()
    for name, values in seen.items():
        assert torch.allclose(found[name], varying(values.flatten(0, -2)), rtol=1e-4, atol=TOLERANCE), name


def test_a_weight_that_is_read_twice_sees_both() -> None:
    layer = nn.Linear(3, 3, bias=False)
    model = trace(nn.Sequential(layer, nn.ReLU(), layer), torch.randn(2, 3))
    x = torch.randn(5, 3)
    (energy,) = input_energy(model, [(x,)]).values()
    both = torch.cat([x, layer(x).relu()]).detach()
    assert torch.allclose(energy, varying(both), rtol=1e-5, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("module", "shape"), [(nn.Conv1d(3, 4, 2), (3, 6)), (nn.Conv2d(3, 4, 1), (3, 4, 5)), (nn.Linear(4, 2), (4,))]
)
def test_takes_a_sample_without_a_batch(module: nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    (energy,) = input_energy(trace(module, x), [(x,)]).values()
    assert torch.allclose(energy, varying(x.reshape(len(x), -1).T), rtol=1e-5, atol=TOLERANCE)


def test_a_product_of_two_weights_sees_nothing() -> None:
    module, inputs = READABLE["low_rank"].build()
    found = input_energy(trace(module, inputs), [inputs if isinstance(inputs, tuple) else (inputs,)])
    assert sorted(found) == ["head.weight", "stem.weight"]


def test_no_batches_see_nothing() -> None:
    assert input_energy(trace(nn.Linear(3, 2), torch.randn(2, 3)), []) == {}
