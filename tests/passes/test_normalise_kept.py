"""Norms lose channels where that is asked for: what is left is the masked original whose norms see only what stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smartc.analysis.channels.channel_groups import ChannelGroups, surviving
from smartc.analysis.find_channel_groups import find_channel_groups
from smartc.frontend.capture import trace
from smartc.ir.traced_model import TracedModel
from smartc.passes.normalise_kept import NormaliseKept
from smartc.passes.remove_channels import RemoveChannels
from smartc.passes.shared.base import PassResult, run_passes
from smartc.proof.reference import Reference, mask_readers
from tests.support.cut_model import Cut, random_keep
from tests.support.oracle import FLOAT32_TOLERANCE, TOLERANCE, masked_original, relative_error
from tests.support.residual_networks import RESIDUAL, Fixed, residual_network
from tests.support.rule_networks import RULE_NETWORKS, example
from tests.support.zoo import CASES

CHANNELS = (2, 6)
ZOO = (
    "transformer_encoder_layer mlp_mixer patch_merging shifted_windows group_norm convnext_block "
    "layer_norm_channels_first layer_norm_over_maps"
).split()
NORMED = {
    **{f"rules: {name}": RULE_NETWORKS["norms"][name].build for name in RULE_NETWORKS["norms"]},
    **{f"zoo: {name}": CASES[name].build for name in ZOO},
}


def run_pass(one: NormaliseKept, model: TracedModel) -> PassResult:
    """Return what the pass makes of a model, checked as a compile checks it."""
    return run_passes(model, (one,))


def narrowed(model: TracedModel, groups: ChannelGroups, keep: Any) -> TracedModel:
    """Return the masked original whose norms see only what stays."""
    return mask_readers(run_pass(NormaliseKept(groups, keep), model).model, groups, keep)


@pytest.mark.parametrize("fixed", [False, True], ids=["free", "fixed"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", RESIDUAL)
def test_removed_equals_norms_over_what_stays(name: str, dtype: torch.dtype, fixed: bool) -> None:
    module, x = residual_network(name, dtype)
    module = Fixed(module).eval() if fixed else module
    model = trace(module, x)
    assert model.dynamic_batch != fixed
    groups = find_channel_groups(model, approximate=True)
    assert len(groups.norms) >= RESIDUAL[name][1]
    for seed in range(2):
        keep = random_keep(groups, seed)
        assert groups.changed_norms(keep)
        smaller = RemoveChannels(groups, keep).run(model).model
        expected = narrowed(model, groups, keep).run((x,))
        tolerance = TOLERANCE if dtype == torch.float64 else FLOAT32_TOLERANCE
        assert relative_error(expected, smaller.run((x,))) < tolerance
        assert relative_error(masked_original(module, Cut(model, groups, keep).to_dict())(_exact(x)), expected) > 1e-3


def _exact(x: Tensor) -> Tensor:
    """Return an input in float64 where it is floating."""
    return x.double() if x.is_floating_point() else x


@pytest.mark.parametrize("name", NORMED)
def test_removed_equals_norms_over_what_stays_for_other_networks(name: str) -> None:
    module, inputs = NORMED[name]()
    model = trace(module, inputs)
    groups = find_channel_groups(model, approximate=True)
    if name.startswith("zoo"):
        assert groups.norms
    for seed in range(2 if groups.count else 0):
        keep = random_keep(groups, seed)
        smaller = RemoveChannels(groups, keep).run(model).model
        reference = Reference(run_pass(NormaliseKept(groups, keep), model).model, groups, keep)
        assert reference.prove_removal(smaller).max_rel_error < TOLERANCE


@pytest.mark.parametrize("name", RESIDUAL)
def test_without_being_asked_norms_keep_their_channels(name: str) -> None:
    module, x = residual_network(name)
    model = trace(module, x)
    groups, more = find_channel_groups(model), find_channel_groups(model, approximate=True)
    assert groups.norms == ()
    assert groups.count < more.count
    keep = random_keep(groups, 0) if groups.count else np.ones(0, dtype=bool)
    assert not run_pass(NormaliseKept(groups, keep), model).modified


class KeptLayerNorm(nn.Module):
    """A layer norm over some of its channels, written by hand; zero elsewhere."""

    def __init__(self, norm: nn.LayerNorm, kept: list[int]) -> None:
        super().__init__()
        self.norm, self.kept = norm, kept

    def forward(self, x: Tensor) -> Tensor:
        part = x[..., self.kept]
        centred = part - part.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + self.norm.eps).sqrt()
        full = torch.zeros_like(x)
        full[..., self.kept] = scaled * self.norm.weight[self.kept] + self.norm.bias[self.kept]
        return full


def test_the_users_own_module_with_norms_by_hand_computes_the_same() -> None:
    module, x = residual_network("layer norm")
    model = trace(module, x)
    groups = find_channel_groups(model, approximate=True)
    cut = Cut(model, groups, random_keep(groups, 3))
    by_hand = masked_original(module, cut.to_dict())
    for name, norm in list(by_hand.named_modules()):
        if isinstance(norm, nn.LayerNorm):
            (axis,) = cut.to_dict()["tensors"][f"{name}.weight"]["axes"]
            holder, _, leaf = name.rpartition(".")
            setattr(by_hand.get_submodule(holder), leaf, KeptLayerNorm(norm, axis["kept"]))
    assert relative_error(by_hand(x), cut.module(x)) < TOLERANCE


def test_groups_of_a_norm_lose_as_many_channels_each() -> None:
    module, x = residual_network("ConvNeXt V2")
    model = trace(module, x)
    groups = find_channel_groups(model, approximate=True)
    (norm,) = (norm for norm in groups.norms if norm.node.args[1] == 4)
    alive = surviving(norm.units, random_keep(groups, 1)).reshape(4, -1).sum(axis=1)
    assert alive.min() == alive.max() < norm.units.size // 4


def test_whole_norms_by_the_same_calls_compute_what_the_model_does() -> None:
    module, x = residual_network("ConvNeXt V2")
    model = trace(module, x)
    groups = find_channel_groups(model, approximate=True)
    keep = random_keep(groups, 0)
    whole = run_pass(NormaliseKept(groups, keep, whole=True), model)
    assert len(whole.remarks) == len(groups.changed_norms(keep)) > 0
    assert relative_error(model.run((x,)), whole.model.run((x,))) < TOLERANCE


NO_NORMS = {
    "gated by a mean": lambda net, x: net.out((h := net.stem(x)) * torch.sigmoid(h.mean(-1, keepdim=True))),
    "divided by a sum": lambda net, x: net.out((h := net.stem(x)) / (h.square().sum(-1, keepdim=True) + 1)),
    "divided by a length": lambda net, x: net.out(F.normalize(net.stem(x), dim=-1)),
    "softmax": lambda net, x: net.out(torch.softmax(net.stem(x), -1)),
    "mean that is an output": lambda net, x: (net.out((h := net.stem(x)) - h.mean(-1, keepdim=True)), h.mean(-1)),
}


@pytest.mark.parametrize("name", NO_NORMS)
def test_what_is_no_norm_keeps_its_channels(name: str) -> None:
    module, x = example(NO_NORMS[name], CHANNELS, stem=nn.Linear(6, 8), out=nn.Linear(8, 3)).build()
    groups = find_channel_groups(trace(module, x), approximate=True)
    assert (groups.count, groups.norms) == (0, ())
