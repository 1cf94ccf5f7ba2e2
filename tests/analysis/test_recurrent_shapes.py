"""Recurrent layers: every gate, step, layer and direction, against the formulas."""

from __future__ import annotations

import torch
from torch import nn

import smartc
from smartc.analysis.analyse import analysed
from smartc.frontend.capture import trace
from smartc.targets.target import load_target
from tests.support.product_networks import build
from tests.support.random_layers import changed
from tests.support.recurrent_networks import Tagger, token_ids

NPU = load_target("npu-8x8")
STEPS, WIDTH, HIDDEN = 6, 32, 24


def test_each_part_of_a_layer_is_named_and_counted() -> None:
    layers = analysed(trace(*build("lstm_projected")))
    costs = NPU.price(layers.workload(NPU, layers.full_sizes))
    macs = {row.name: int(count) for row, count in zip(layers.rows, costs.macs, strict=True)}
    assert macs == {
        "layer.l0.input": STEPS * WIDTH * 4 * HIDDEN,
        "layer.l0.recurrent": STEPS * 8 * 4 * HIDDEN,
        "layer.l0.cell": 0,
        "layer.l0.projection": STEPS * HIDDEN * 8,
        "head": 8 * 5,
    }
    assert costs.total.min() > 0


def test_steps_run_one_after_another() -> None:
    layers = analysed(trace(nn.GRU(WIDTH, WIDTH, batch_first=True).eval(), torch.randn(2, STEPS, WIDTH)))
    costs = NPU.price(layers.workload(NPU, layers.full_sizes))
    side_by_side, in_turn, _ = costs.compute.tolist()
    tiles = (WIDTH // 8) * (3 * WIDTH // 8)
    assert side_by_side == 8 + (tiles - 1) * 8 + STEPS + 16
    assert in_turn == STEPS * (8 + (tiles - 1) * 8 + 1 + 16)


def test_weights_that_do_not_fit_are_read_at_each_step() -> None:
    layers = analysed(trace(nn.GRU(WIDTH, WIDTH, batch_first=True).eval(), torch.randn(2, STEPS, WIDTH)))
    small = changed(NPU, memory__weight_sram_bytes=100)
    held, read = (target.price(layers.workload(target, layers.full_sizes)) for target in (NPU, small))
    assert (read.weights / held.weights)[1] == STEPS
    assert (read.weight_bytes == held.weight_bytes).all()


def test_the_price_of_what_is_left_follows_all_gates() -> None:
    module, ids = Tagger("GRU", num_layers=1).eval(), token_ids(STEPS)
    done = smartc.compile(module, ids, target="npu-8x8", sparsity=0.5, backends=())
    compiled = {layer.name: layer.compiled.macs for layer in done.report.layers}
    state = done.module.state_dict()
    embedded, head = state["embed.weight"].shape[1], state["head.weight"].shape
    units = {place: state[f"recurrent.weight_hh_{place}"].shape[1] for place in ("l0", "l0_reverse")}
    for place, own in units.items():
        assert compiled[f"recurrent.{place}.input"] == STEPS * embedded * 3 * own
        assert compiled[f"recurrent.{place}.recurrent"] == STEPS * own * 3 * own
    assert compiled["head"] == STEPS * sum(units.values()) * head[0]
    assert sum(units.values()) < 48
