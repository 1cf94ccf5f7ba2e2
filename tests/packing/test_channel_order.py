"""Reordered channels: fewer live tiles in the compiled model, and a plan that tells where each channel went."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import smartc
from smartc.analysis.weight_use import weight_use
from smartc.packing.channel_order import Ordered
from smartc.passes.pack_blocks import packed_for
from smartc.targets.target import load_target


def _net(seed: int) -> tuple[nn.Module, torch.Tensor]:
    """Return a small network with random weights, some channels of which are far larger than others."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 48, 3), nn.BatchNorm2d(48), nn.ReLU(), nn.Conv2d(48, 32, 1), nn.ReLU(), nn.Conv2d(32, 24, 3)
    )
    with torch.no_grad():
        for layer in (net[3], net[5]):
            assert isinstance(layer, nn.Conv2d)
            out, into = layer.weight.shape[:2]
            layer.weight *= (torch.rand(out, 1, 1, 1) * torch.rand(into, 1, 1)) ** 2
    return net.eval(), torch.randn(2, 3, 10, 10)


def _compiled(seed: int, granularity: str) -> smartc.Compiled:
    """Return the network with most of its blocks removed."""
    return smartc.compile(
        *_net(seed), target="npu-8x8", granularity=granularity, sparsity=0.8 if "x" in granularity else None
    )


def _live(model: smartc.TracedModel) -> int:
    """Return the live tiles of all weights on npu-8x8."""
    target = load_target("npu-8x8")
    uses = {use for use in (weight_use(model, node) for node in model.calls()) if use is not None}
    return sum(packed_for(model, use, target).live for use in uses)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_small_blocks_are_gathered_in_fewer_tiles(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ordered = _compiled(seed, "2x2")
    assert all(proof.passed for proof in ordered.report.verify)
    moved = [remark for remark in ordered.report.remarks if "another order" in remark.text]
    assert all(remark.text.startswith("its channels have another order: ") for remark in moved)
    saved = sum(int(remark.text.split(": ")[1].split()[0]) for remark in moved)
    monkeypatch.setattr("smartc.packing.pack.in_fewest_tiles", lambda model, target: Ordered(model))
    plain = _compiled(seed, "2x2")
    assert _live(plain.model) - _live(ordered.model) == saved > 0
    assert ordered.report.latency.compiled <= plain.report.latency.compiled


@pytest.mark.slow
def test_the_plan_tells_the_order() -> None:
    """The compiled weights are the original's kept indices, in the plan's order, times the mask."""
    compiled = _compiled(0, "2x2")
    state = _net(0)[0].state_dict()
    entries = compiled.plan.tensors
    assert any(axis["kept"] != sorted(axis["kept"]) for entry in entries.values() for axis in entry["axes"])
    for name, tensor in compiled.model.graph_module.state_dict().items():
        if not tensor.is_floating_point():
            continue
        was = state[name]
        for axis in entries.get(name, {"axes": []})["axes"]:
            was = was.index_select(axis["axis"], torch.tensor(axis["kept"]))
        assert torch.equal(torch.where(tensor != 0, was, 0.0), tensor)


@pytest.mark.slow
def test_patterns_of_neighbours_are_not_torn() -> None:
    compiled = _compiled(0, "2:4")
    assert not any("another order" in remark.text for remark in compiled.report.remarks)
    weight = compiled.model.tensor("5.weight").detach()
    assert ((weight != 0).movedim(1, -1).reshape(-1, 4).sum(-1) <= 2).all()
