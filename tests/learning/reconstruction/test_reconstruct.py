"""Reconstruction: exact where it can be, never outside the masks, never worse on inputs held out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smartc.core.errors import UserError
from smartc.frontend.capture import trace
from smartc.ir.traced_model import TracedModel, stored_name
from smartc.learning.reconstruction.layer_rows import is_layer
from smartc.learning.reconstruction.reconstruct import reconstruct
from smartc.passes.shared.base import PassResult
from smartc.passes.training_mode import TrainingMode
from smartc.proof.reference import seeded_inputs
from tests.support.oracle import relative_error
from tests.support.zoo import CASES
from tests.support.zoo.disturb import disturb

# Small enough to leave solutions that exist as they are.
NO_RIDGE = 1e-8
EXACT = 1e-5
ZOO = (
    "inverted_residual",
    "grouped_transposed",
    "residual_identity",
    "multihead_attention",
    "tied_convolutions",
    "weight_norm_hook",
    "inplace_through_view",
    "matmul_with_parameter",
    "temporal_convolutions",
)


def random_supports(model: TracedModel, share: float = 0.5, seed: int = 0) -> dict[str, Tensor]:
    """Return a random support for the weight of every convolution and linear layer."""
    generator = torch.Generator().manual_seed(seed)
    names = {stored_name(node.args[1]) for node in model.calls() if is_layer(node)} - {None}  # type: ignore[arg-type]
    return {name: torch.rand(model.tensor(name).shape, generator=generator) < share for name in sorted(map(str, names))}


def masked(model: TracedModel, supports: Mapping[str, Tensor]) -> TracedModel:
    """Return the model with zeros outside the supports."""
    return model.with_tensors({name: model.tensor(name).detach() * kept for name, kept in supports.items()})


def sequential(*layers: nn.Module, shape: tuple[int, ...] = (3, 8, 8)) -> TracedModel:
    """Return a captured chain of layers in float64."""
    network = nn.Sequential(*layers).double().eval()
    disturb(network, 0)
    return trace(network, torch.randn(2, *shape, dtype=torch.float64))


def changed_share(result: PassResult) -> list[float]:
    """Return the share of its error that each refitted layer is left with."""
    texts = [remark.text for remark in result.remarks if remark.changed]
    found = [re.fullmatch(r"refitted: ([\d.]+)% of its squared output error is left", text) for text in texts]
    return [float(match[1]) / 100 for match in found if match]


@pytest.mark.parametrize("name", ["inverted_residual", "inplace_through_view", "matmul_with_parameter"])
def test_full_supports_change_nothing(name: str) -> None:
    module, inputs = CASES[name].build()
    model = trace(module, inputs)
    supports = random_supports(model, share=2)
    result = reconstruct(model, model, supports, [seeded_inputs(model, 5)])
    assert not result.modified
    assert result.model.graph_module.code == model.graph_module.code
    assert all(torch.equal(tensor, model.tensor(key)) for key, tensor in result.model.graph_module.named_parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_supports_are_kept_and_no_layer_gets_worse(name: str) -> None:
    module, inputs = CASES[name].build()
    model = trace(module, inputs)
    supports = random_supports(model)
    data = [seeded_inputs(model, 5, seed) for seed in (1, 2)]
    pruned = masked(model, supports)
    result = reconstruct(model, pruned, supports, data)
    for key, kept in supports.items():
        assert not result.model.tensor(key)[~kept].any()
        assert result.model.tensor(key).isfinite().all()
    assert all(share <= 1 for share in changed_share(result))
    assert result.model.graph_module.code == pruned.graph_module.code


def duplicated() -> tuple[TracedModel, dict[str, Tensor]]:
    """Return a network whose channels come in equal pairs, and supports that keep one of each pair."""
    first, second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)
    model = sequential(first, nn.ReLU(), second)
    weight, bias = model.tensor("0.weight").detach().clone(), model.tensor("0.bias").detach().clone()
    weight[4:], bias[4:] = weight[:4], bias[:4]
    support = torch.ones(4, 8, 3, 3, dtype=torch.bool)
    support[:, 4:] = False
    return model.with_tensors({"0.weight": weight, "0.bias": bias}), {"2.weight": support}


def test_what_other_channels_can_give_comes_back_whole() -> None:
    model, supports = duplicated()
    data = [seeded_inputs(model, 6, seed) for seed in (1, 2)]
    pruned = masked(model, supports)
    result = reconstruct(model, pruned, supports, data, ridge=NO_RIDGE)
    fresh = seeded_inputs(model, 3, seed=9)
    assert relative_error(model.run(fresh), pruned.run(fresh)) > 0.1
    assert relative_error(model.run(fresh), result.model.run(fresh)) < EXACT
    assert changed_share(result) == [0.0]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_the_second_layer_makes_up_for_the_first(groups: int, transposed: bool) -> None:
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    model = sequential(nn.Conv2d(3, 4, 1), kind(4, 8, 3, groups=groups, stride=2))
    supports = {"1.weight": torch.ones_like(model.tensor("1.weight"), dtype=torch.bool)}
    scale = torch.linspace(0.5, 2, 4, dtype=torch.float64)
    changed = {"0.weight": model.tensor("0.weight").detach() * scale.view(4, 1, 1, 1)}
    if transposed:
        # Not every output position of a transposed convolution sees the same share of a constant input.
        changed["0.bias"] = model.tensor("0.bias").detach() * scale
    pruned = model.with_tensors(changed)
    result = reconstruct(model, pruned, supports, [seeded_inputs(model, 8)], ridge=NO_RIDGE)
    fresh = seeded_inputs(model, 3, seed=9)
    assert relative_error(model.run(fresh), pruned.run(fresh)) > 0.05
    assert relative_error(model.run(fresh), result.model.run(fresh)) < EXACT


def test_a_batch_norm_takes_the_shift_of_a_layer_without_bias() -> None:
    model = sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4))
    support = torch.ones(4, 3, 1, 1, dtype=torch.bool)
    support[:, 2] = False
    (x,) = seeded_inputs(model, 8)
    x[:, 2] = 3.0
    result = reconstruct(model, masked(model, {"0.weight": support}), {"0.weight": support}, [(x,)])
    assert relative_error(model.run((x,)), result.model.run((x,))) < EXACT
    assert not torch.equal(result.model.tensor("1.running_mean"), model.tensor("1.running_mean"))
    assert torch.allclose(result.model.tensor("1.running_var"), model.tensor("1.running_var"), rtol=EXACT)


class TwoWays(nn.Module):
    """Add two layers' outputs, one of them through a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.norm = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 4, H, W)."""
        left = self.left(x)
        return left + self.norm(self.right(x))


def test_a_layer_makes_up_for_the_shortcut_around_it() -> None:
    network = TwoWays().double().eval()
    disturb(network, 0)
    model = trace(network, torch.randn(2, 3, 4, 4, dtype=torch.float64))
    supports = {"left.weight": torch.zeros(4, 3, 1, 1, dtype=torch.bool)}
    supports["right.weight"] = ~supports["left.weight"]
    pruned, data = masked(model, supports), [seeded_inputs(model, 8)]
    result = reconstruct(model, pruned, supports, data, ridge=NO_RIDGE)
    assert relative_error(model.run(data[0]), pruned.run(data[0])) > 0.1
    assert relative_error(model.run(data[0]), result.model.run(data[0])) < EXACT


@pytest.mark.parametrize("match_norms", [True, False])
def test_norms_keep_the_mean_and_variance_of_what_they_give(match_norms: bool) -> None:
    model = sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4))
    support = torch.ones(4, 3, 1, 1, dtype=torch.bool)
    support[:, 2] = False
    weight = torch.rand(4, 3, 1, 1, dtype=torch.float64) + 0.5
    model = model.with_tensors({"0.weight": weight})
    data = [seeded_inputs(model, 8, seed) for seed in (1, 2)]
    supports = {"0.weight": support}
    result = reconstruct(model, masked(model, supports), supports, data, match_norms=match_norms)
    whole = (torch.cat([batch[0] for batch in data]),)
    dense, pruned = (torch.var_mean(one.run(whole), (0, 2, 3)) for one in (model, result.model))
    assert torch.allclose(pruned[0], dense[0], rtol=EXACT) == match_norms
    assert torch.allclose(pruned[1], dense[1], rtol=EXACT, atol=EXACT) == match_norms
    assert (pruned[0] < dense[0] * (1 + EXACT)).all()


def remarks_of(name: str) -> dict[str, str]:
    """Return what is said of each layer of a network of the zoo under random supports."""
    module, inputs = CASES[name].build()
    model = trace(module, inputs)
    supports = random_supports(model)
    result = reconstruct(model, masked(model, supports), supports, [seeded_inputs(model, 6)])
    return {remark.where: remark.text for remark in result.remarks if not remark.changed}


def test_a_weight_read_twice_is_left_alone() -> None:
    assert "left alone, because its weight is read 2 times" in remarks_of("tied_convolutions").values()


def test_a_computed_weight_is_named() -> None:
    module, inputs = CASES["weight_norm_hook"].build()
    model = trace(module, inputs)
    name = next(key for key, _ in model.graph_module.named_parameters() if key.endswith("weight_v"))
    supports = {name: torch.ones_like(model.tensor(name), dtype=torch.bool)}
    (remark,) = reconstruct(model, model, supports, [seeded_inputs(model, 4)]).remarks
    assert remark == (name, "is not read by a convolution or linear layer directly", False)


@pytest.mark.parametrize(("bad", "reason"), [(torch.nan, "its inputs or outputs are not finite"), (None, "there are")])
def test_says_why_a_layer_is_left_alone(bad: float | None, reason: str) -> None:
    model = sequential(nn.Linear(4, 3), shape=(4,))
    supports = random_supports(model)
    batch = torch.randn(1, 4, dtype=torch.float64) if bad is None else torch.full((8, 4), bad, dtype=torch.float64)
    pruned = masked(model, supports)
    result = reconstruct(model, pruned, supports, [(batch,)])
    assert [remark.text.startswith(f"left alone, because {reason}") for remark in result.remarks] == [True]
    assert torch.equal(result.model.tensor("0.weight"), pruned.tensor("0.weight"))


def test_is_deterministic_and_leaves_its_arguments_alone() -> None:
    model = sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
    supports = random_supports(model)
    pruned, data = TrainingMode().run(masked(model, supports)).model, [seeded_inputs(model, 300)]
    state = {key: value.clone() for key, value in pruned.graph_module.state_dict().items()}
    one, other = (reconstruct(TrainingMode().run(model).model, pruned, supports, data) for _ in range(2))
    assert all(torch.equal(value, pruned.graph_module.state_dict()[key]) for key, value in state.items())
    assert one.modified
    assert one.remarks == other.remarks
    left, right = (result.model.graph_module.state_dict() for result in (one, other))
    assert all(torch.equal(left[key], right[key]) for key in left)


def test_half_precision_weights_stay_half() -> None:
    model = sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3), shape=(8,)).to(torch.bfloat16)
    supports = random_supports(model)
    result = reconstruct(model, masked(model, supports), supports, [seeded_inputs(model, 64)])
    assert {tensor.dtype for tensor in result.model.graph_module.parameters()} == {torch.bfloat16}
    assert len(changed_share(result)) == 2


def arguments(**changes: Any) -> dict[str, Any]:
    """Return the arguments of a small reconstruction, some of them replaced."""
    model = sequential(nn.Linear(4, 3), shape=(4,))
    supports = {"0.weight": torch.ones(3, 4, dtype=torch.bool)}
    return {"dense": model, "pruned": model, "supports": supports, "batches": [(torch.randn(2, 4),)], **changes}


def test_refuses_what_does_not_belong_together() -> None:
    with pytest.raises(UserError) as caught:
        reconstruct(**arguments(batches=[]))
    assert str(caught.value) == "Sequential: there is no input to reconstruct layers from. Give at least one."
    with pytest.raises(ValueError, match=r"^the ridge is 0, and must be positive$"):
        reconstruct(**arguments(), ridge=0)
    with pytest.raises(ValueError, match=r"^the dense and the pruned model have different graphs$"):
        reconstruct(**arguments(dense=sequential(nn.Linear(4, 3), nn.ReLU(), shape=(4,))))
    with pytest.raises(
        ValueError, match=r"^the support of 0.weight is torch.bool \(3, 1\), its weight has shape \(3, 4\)$"
    ):
        reconstruct(**arguments(supports={"0.weight": torch.ones(3, 1, dtype=torch.bool)}))
    with pytest.raises(ValueError, match=r"^a batch has 2 inputs, and the model takes 1$"):
        reconstruct(**arguments(batches=[(1, 2)]))
