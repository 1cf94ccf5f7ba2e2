"""FoldConstants: the same bits with constants in place of formulas, wherever that frees channels and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

import smartc
from smartc.decision.plan import Plan
from smartc.ir.traced_model import TracedModel
from smartc.passes import fold_constants
from smartc.passes.fold_constants import FoldConstants
from tests.support.constant_networks import CONSTANT_NETWORKS, build
from tests.support.oracle import TOLERANCE, errors_by_batch, masked_original, relative_error
from tests.support.zoo import CASES

NPU = "npu-8x8"


def masked_constants(folded: TracedModel, plan: Plan) -> tuple[nn.Module, Any]:
    """Return the network with its constants, and a plan that speaks of these as of the user's own tensors."""
    return folded.graph_module, SimpleNamespace(to_dict=lambda: {"tensors": {**plan.tensors, **plan.constants}})


@pytest.mark.parametrize(
    ("dtype", "fixed"),
    [
        (torch.float32, False),
        (torch.float64, True),
        pytest.param(torch.float32, True, marks=pytest.mark.slow),
        pytest.param(torch.float64, False, marks=pytest.mark.slow),
    ],
    ids=["float32 free", "float64 fixed", "float32 fixed", "float64 free"],
)
@pytest.mark.parametrize("name", CONSTANT_NETWORKS)
def test_constants_are_the_same_bits_and_what_is_removed_is_exact(name: str, dtype: torch.dtype, fixed: bool) -> None:
    module, inputs = build(name, dtype, fixed)
    traced = smartc.trace(module, inputs)
    folded = FoldConstants().run(traced).model
    with torch.no_grad():
        assert torch.equal(folded.graph_module(inputs), module(inputs))
    assert folded.constants
    compiled = smartc.compile(traced, target=NPU, backends=())
    assert all(proof.passed for proof in compiled.report.verify)
    assert compiled.report.latency.speed_up > 1
    own, plan = masked_constants(folded, compiled.plan)
    if fixed:
        masked = masked_original(own, plan.to_dict())
        wide = inputs.double()
        assert relative_error(masked(wide), compiled.module.double()(wide)) < TOLERANCE
    else:
        errors = errors_by_batch(own, (inputs,), SimpleNamespace(plan=plan, module=compiled.module))
        assert max(errors.values()) < TOLERANCE


def folded_from(module: nn.Module, inputs: Any) -> dict[str, tuple[str, ...]]:
    """Return what was folded of a module, with the sources of each constant."""
    return dict(FoldConstants().run(smartc.trace(module.eval(), inputs)).model.constants)


def test_a_constant_has_a_name_in_the_users_layer() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), spectral_norm(nn.Conv2d(8, 8, 3)), nn.Conv2d(8, 4, 3))
    parts = ("original", "0._u", "0._v")
    assert folded_from(network, torch.randn(2, 3, 9, 9)) == {
        "1.weight": tuple(f"1.parametrizations.weight.{part}" for part in parts)
    }
    attention = list(folded_from(*build("joined weights and a bias of positions", torch.float32)))
    assert attention == ["0.position_folded", "1.position_folded"]
    updates = list(folded_from(*build("low-rank updates", torch.float32)))
    assert updates == ["0.weight_folded", "2.weight_folded"]


class Several(nn.Module):
    """Call a function between two linear layers of 16 channels."""

    def __init__(self, between: Callable[[Several, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.between = nn.Linear(4, 16), nn.Linear(16, 4), between
        self.free, self.square = nn.Parameter(torch.randn(16)), nn.Parameter(torch.randn(16, 16))
        self.other = nn.Parameter(torch.randn(16, 16))
        self.register_buffer("count", torch.zeros(16))
        self.norm = nn.BatchNorm1d(16)

    def forward(self, x: Tensor) -> Tensor:
        """Compute what is between."""
        return self.last(self.between(self, self.first(x)))


def counted(net: Several, x: Tensor) -> Tensor:
    """Write into a buffer, and read a formula of it."""
    net.count.add_(1)
    return F.linear(x, net.square * net.count.softmax(0))


def written(net: Several, x: Tensor) -> Tensor:
    """Write into what parameters alone compute, through a view, before it is read."""
    weight = net.square.cos()
    weight[0].add_(x.mean())
    return F.linear(x, weight)


STAY = {
    "a stored tensor": lambda net, x: x * net.free,
    "a view of one": lambda net, x: F.linear(x, net.square.t()) + net.free.view(1, -1),
    "what keeps zeros": lambda net, x: F.linear(x, net.square.clamp(-1, 1) * 0.5),
    "a product of two": lambda net, x: F.linear(x, net.square @ net.other),
    "random numbers": lambda net, x: F.linear(x, net.square + torch.rand_like(net.square)),
    "dropout in training": lambda net, x: F.linear(x, F.dropout(net.square, 0.5, True).cos()),
    "memory that nothing has set": lambda net, x: F.linear(x, torch.empty_like(net.square).cos()),
    "a buffer that counts": counted,
    "a constant that is written to": written,
    "what an input decides": lambda net, x: F.linear(x, (net.square * x.mean()).cos()),
    "what frees nothing": lambda net, x: (x * net.free.softmax(0)).softmax(-1),
}


@pytest.mark.parametrize("name", STAY)
def test_leaves_alone(name: str) -> None:
    assert not folded_from(Several(STAY[name]), torch.randn(2, 4))


def test_weight_norm_over_outputs_stays_the_users() -> None:
    network = nn.Sequential(weight_norm(nn.Linear(4, 16)), spectral_norm(nn.Linear(16, 16)), nn.Linear(16, 4))
    assert list(folded_from(network, torch.randn(2, 4))) == ["1.weight"]


def test_a_norm_of_a_weight_in_training_is_folded_and_its_statistics_stay() -> None:
    def between(net: Several, x: Tensor) -> Tensor:
        mean, variance = net.norm.running_mean, net.norm.running_var
        return F.linear(
            x, F.batch_norm(net.square, mean if shared else None, variance if shared else None, training=True)
        )

    for shared in (False, True):
        assert bool(folded_from(Several(between), torch.randn(2, 4))) is not shared


def test_a_large_constant_stays_computed_and_what_it_is_made_of_is_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    module, inputs = build("joined weights and a bias of positions", torch.float64)
    traced = smartc.trace(module, inputs)
    model = FoldConstants().run(traced).model
    assert {tuple(model.tensor(name).shape) for name in model.constants} == {(1, 4, 9, 9)}
    monkeypatch.setattr(fold_constants, "SMALL", 100)
    monkeypatch.setattr(fold_constants, "LARGEST_GROWTH", 0.5)
    model = FoldConstants().run(traced).model
    assert all(model.tensor(name).numel() <= 100 for name in model.constants)
    with torch.no_grad():
        assert torch.equal(model.graph_module(inputs), module(inputs))


def partly_computed() -> nn.Module:
    """Return three layers, of which one has a spectral norm."""
    return nn.Sequential(nn.Linear(8, 64), nn.ReLU(), spectral_norm(nn.Linear(64, 64)), nn.ReLU(), nn.Linear(64, 64))


def test_what_a_loop_trains_stays_computed() -> None:
    search = smartc.prepare(partly_computed(), torch.randn(2, 8), target=NPU, steps=1, granularity="8x8")
    names = dict(search.model.named_parameters())
    assert "2.parametrizations.weight.original" in names
    assert "2.weight" not in names
    ramp, image = build("ramps and indices", torch.float32)
    result = FoldConstants(parameters=False).run(smartc.trace(ramp, image))
    assert len(result.model.constants) == 2


def test_the_plan_says_what_it_cannot_say_of_the_users_parameters() -> None:
    module, inputs = build("low-rank updates", torch.float32)
    compiled = smartc.compile(module, inputs, target=NPU, backends=())
    entry = compiled.plan.constants["2.weight_folded"]
    assert entry["computed_from"] == ["2.weight", "2.down", "2.up"]
    assert entry["shape"] == [32, 24]
    assert [axis["role"] for axis in entry["axes"]] == ["owns", "reads"]
    assert "2.weight" not in compiled.plan.tensors
    assert Plan.from_dict(compiled.plan.to_dict()) == compiled.plan
    text = "0.weight_folded and 2.weight_folded hold what parameters or literals alone compute: it is computed once"
    assert text in [remark.text for remark in compiled.report.remarks]
    assert compiled.report.summary.parameters.dense == sum(tensor.numel() for tensor in module.parameters())
    assert [layer.name for layer in compiled.report.layers if "2" in layer.name]


def test_blocks_go_from_weights_that_hide_no_channels_too() -> None:
    network = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), weight_norm(nn.Linear(64, 64)), nn.ReLU(), nn.Linear(64, 8))
    traced = smartc.trace(network.eval(), torch.randn(2, 8))
    assert not FoldConstants().run(traced).model.constants
    compiled = smartc.compile(traced, target=NPU, granularity="8x8", backends=())
    assert "2.weight" in compiled.plan.masks
    assert all(proof.passed for proof in compiled.report.verify)
    tied = smartc.trace(*CASES["tied_autoencoder"].build())
    assert not FoldConstants(all_weights=True).run(tied).model.constants


@pytest.mark.slow
def test_trained_and_lowered_constants_are_tensors_like_others() -> None:
    options: dict[str, Any] = {"target": NPU, "granularity": "8x8", "backends": ("onnx",)}
    learning = {"data": torch.randn(16, 8), "settings": smartc.Settings(steps=2)}
    compiled = smartc.compile(partly_computed(), torch.randn(2, 8), **options, **learning)
    assert "2.weight" in dict(compiled.module.named_parameters())
    assert "2.weight" in compiled.plan.masks
    assert all(proof.passed for proof in compiled.report.verify)
    assert "masked == ONNX Runtime" in [proof.stage for proof in compiled.report.verify]


def test_a_model_has_one_hash_whatever_is_folded() -> None:
    traced = smartc.trace(partly_computed().eval(), torch.randn(2, 8))
    folded = smartc.compile(traced, target=NPU, backends=("pt2",))
    with pytest.warns(UserWarning, match="finish was called after 0 of 1 steps"):
        kept = smartc.prepare(traced, target=NPU, steps=1, granularity="8x8").finish(backends=("pt2",))
    assert folded.plan.constants
    assert not kept.plan.constants
    assert folded.plan.model == kept.plan.model
