"""Recurrent networks are learned by channels, also where blocks are what the target likes best."""

from __future__ import annotations

import pytest
import torch

import smartc
from smartc.analysis.analyse import analysed
from smartc.frontend.capture import trace
from smartc.ir.traced_model import Remark
from smartc.masks.granularity import BlockGranularity
from smartc.masks.units import find_units
from tests.support.recurrent_networks import build


@pytest.mark.slow
@pytest.mark.parametrize(("name", "learner"), [("lstm_tagger", "smart"), ("speech", "pdp"), ("gru_cells", "taylor")])
def test_channels_are_learned(name: str, learner: str) -> None:
    module, x = build(name, torch.float32)
    settings = smartc.Settings(steps=4)
    done = smartc.compile(
        module,
        x,
        target="npu-8x8",
        sparsity=0.5,
        learner=learner,
        data=torch.cat([x] * 8),
        settings=settings,
        backends=(),
    )
    assert done.plan.granularity == "channel"
    summary = done.report.summary
    assert summary.removed_channels >= summary.prunable_channels // 2
    assert done.report.verify[0].stage == "masks in the graph == masked (float64)"


def test_blocks_leave_recurrent_layers_alone_and_say_so() -> None:
    model = trace(*build("speech", torch.float32))
    reason = "is of a recurrent layer, whose weights no runtime takes in parts"
    skipped = find_units(model, analysed(model), BlockGranularity(8, 8)).skipped
    assert {
        Remark(f"{layer}.l0.{part}", reason) for layer in ("lower", "upper") for part in ("input", "recurrent")
    } <= set(skipped)
