"""reestimate_batch_norm: the statistics that the model itself shows, whatever the batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smartc.core.errors import UserError
from smartc.frontend.capture import trace
from smartc.ir.traced_model import TracedModel
from smartc.learning.statistics import batch_norm_statistics
from smartc.learning.statistics.batch_norm_statistics import Statistics, reestimate_batch_norm
from tests.support.zoo import CASES
from tests.support.zoo.disturb import disturb

# float64 sums in another order.
TOLERANCE = 1e-12
ZOO = (
    "residual_identity",
    "inverted_residual",
    "squeeze_excite_convolution",
    "tied_norms",
    "shared_convolution_own_norms",
)


def two_norms() -> TracedModel:
    """Return a captured network of two convolutions with norms, momentum 0.1 and none."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4, momentum=None))
    network = nn.Sequential(*layers).double().eval()
    disturb(network, 1)
    return trace(network, torch.randn(2, 3, 8, 8, dtype=torch.float64))


def batches(*sizes: int) -> list[tuple[Any, ...]]:
    """Return batches of the given sizes."""
    generator = torch.Generator().manual_seed(3)
    return [(torch.randn(size, 3, 8, 8, generator=generator, dtype=torch.float64) * 2 + 1,) for size in sizes]


def inputs_of_norms(model: TracedModel, flat: tuple[Any, ...]) -> dict[str, Tensor]:
    """Return what reaches each batch norm in evaluation."""
    found: dict[str, Tensor] = {}

    class Watching(torch.fx.Interpreter):
        def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
            if "batch_norm" in str(target):
                found[str(len(found))] = args[0]
            return super().call_function(target, args, kwargs)

    with torch.no_grad():
        Watching(model.graph_module).run(*flat)
    return found


def test_statistics_are_those_of_the_model_in_evaluation() -> None:
    data = batches(5, 3, 1)
    model = reestimate_batch_norm(two_norms(), iter(data))
    whole = (torch.cat([batch[0] for batch in data]),)
    for name, x in zip(("1", "4"), inputs_of_norms(model, whole).values(), strict=True):
        variance, mean = torch.var_mean(x, (0, 2, 3))
        assert torch.allclose(model.tensor(f"{name}.running_mean"), mean, rtol=TOLERANCE, atol=TOLERANCE)
        assert torch.allclose(model.tensor(f"{name}.running_var"), variance, rtol=TOLERANCE, atol=TOLERANCE)


def test_pools_too_large_to_hold_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    data = batches(5, 3, 4)
    whole = reestimate_batch_norm(two_norms(), data)
    monkeypatch.setattr(batch_norm_statistics, "POOL_BYTES", 1)
    parts = reestimate_batch_norm(two_norms(), data)
    first, last = ([model.tensor(f"{name}.running_var") for model in (whole, parts)] for name in "14")
    assert torch.allclose(*first, rtol=TOLERANCE)
    # The second norm's input depends on how the first one normalises.
    assert not torch.allclose(*last, rtol=TOLERANCE)
    assert torch.allclose(*last, rtol=0.2)


def test_one_pool_per_batch_is_what_training_accumulates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_norm_statistics, "POOL_BYTES", 1)
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, momentum=None)).double()
    data = batches(4, 4)
    model = reestimate_batch_norm(trace(network, data[0]), data)
    for batch in data:
        network.train()(*batch)
    assert torch.allclose(model.tensor("1.running_mean"), network[1].running_mean, rtol=TOLERANCE)


def test_the_argument_keeps_its_statistics_and_its_graph() -> None:
    model = two_norms()
    before = {name: buffer.clone() for name, buffer in model.graph_module.named_buffers()}
    fresh = reestimate_batch_norm(model, batches(4))
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.graph_module.named_buffers())
    assert not torch.equal(fresh.tensor("1.running_var"), model.tensor("1.running_var"))
    assert fresh.graph_module.code == model.graph_module.code


@pytest.mark.parametrize("name", ZOO)
def test_a_second_time_changes_nothing(name: str) -> None:
    module, inputs = CASES[name].build()
    model = trace(module, inputs)
    once = reestimate_batch_norm(model, [model.examples])
    twice = reestimate_batch_norm(once, [model.examples])
    changed = [key for key, buffer in once.graph_module.named_buffers() if not torch.equal(buffer, model.tensor(key))]
    assert changed
    for key in changed:
        assert torch.allclose(twice.tensor(key), once.tensor(key), rtol=TOLERANCE, atol=TOLERANCE)


class Twice(nn.Module):
    """Use one norm on two inputs of different sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.without = nn.BatchNorm1d(3), nn.BatchNorm1d(3, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, L) to the same."""
        return self.without(self.norm(x)) + self.norm(x[:, :, :1] * 3)


def test_a_norm_used_twice_gets_the_statistics_of_both_uses() -> None:
    x = torch.randn(6, 3, 4, dtype=torch.float64)
    model = reestimate_batch_norm(trace(Twice().double(), x), [(x,)])
    both = torch.cat([x.transpose(0, 1).flatten(1), x[:, :, 0].T * 3], dim=1)
    assert torch.allclose(model.tensor("norm.running_mean"), both.mean(1), rtol=TOLERANCE)
    assert torch.allclose(model.tensor("norm.running_var"), both.var(1), rtol=TOLERANCE)


def test_a_small_variance_far_from_zero_is_exact() -> None:
    x = (torch.randn(1000, 2) + 1e4).float()
    parts = Statistics.of(x[:300]).joined(Statistics.of(x[300:]))
    assert torch.allclose(parts.variance, x.double().var(0), rtol=1e-9)
    maps = Statistics.of(x.reshape(10, 100, 2).transpose(1, 2))
    # Its mean is rounded to float32, which has 1e-3 between neighbours there.
    assert torch.allclose(maps.variance, x.double().var(0), rtol=1e-5)


def test_refuses_data_that_says_nothing() -> None:
    model = trace(nn.Sequential(nn.BatchNorm1d(3)), torch.randn(2, 3))
    with pytest.raises(UserError) as caught:
        reestimate_batch_norm(model, [])
    assert str(caught.value) == ("Sequential: there is no input to take batch-norm statistics from. Give at least one.")
    with pytest.raises(UserError) as caught:
        reestimate_batch_norm(model, [(torch.randn(1, 3),)])
    assert str(caught.value) == "0: one value per channel has no variance. Give more than one input."
    with pytest.raises(UserError) as caught:
        reestimate_batch_norm(model, [(torch.full((2, 3), torch.nan),)])
    assert str(caught.value) == "0: the input of this batch norm is not finite. Look for NaN in the data."
