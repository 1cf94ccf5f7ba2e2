"""Where there is enough, some samples are kept from learning, to compare on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

import smartc
from smartc.data.hold_out import ENOUGH, MOST, hold_out
from smartc.data.samples import load_samples
from smartc.proof.comparison import BOTH
from tests.support.small_networks import SHAPE, small

COUNT = 3 * ENOUGH


def _numbered(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs that each hold their place, which is their label too."""
    places = torch.arange(count)
    return places.reshape(-1, 1, 1, 1).expand(-1, *SHAPE).float(), places


def test_held_out_are_not_learned_from() -> None:
    model = smartc.trace(small(), torch.zeros(2, *SHAPE))
    learned, held = hold_out(load_samples(_numbered(COUNT), model))
    assert held is not None
    seen = {int(place) for batch in learned.in_order(64) for place in batch.labels}
    kept = {int(place) for batch in held.in_order(64) for place in batch.labels}
    assert (learned.count, held.count) == (COUNT - MOST, MOST)
    assert seen | kept == set(range(COUNT))
    assert not seen & kept
    assert min(kept) < COUNT / 100 < 0.99 * COUNT < max(kept)
    shuffled = learned.shuffled(100, seed=0)
    epoch = [int(place) for _ in range(learned.count // 100) for place in next(shuffled).labels]
    assert len(set(epoch)) == len(epoch)
    assert set(epoch) <= seen
    again = next(learned.shuffled(100, seed=0, start=3)).labels
    assert again.tolist() == epoch[300:400]
    assert all(bool((batch.inputs[0][:, 0, 0, 0] == batch.labels).all()) for batch in learned.in_order(64, 128))


def test_few_and_streams_are_all_learned_from() -> None:
    model = smartc.trace(small(), torch.zeros(2, *SHAPE))
    few = load_samples(_numbered(ENOUGH - 1), model)
    assert hold_out(few) == (few, None)
    stream = load_samples(lambda: iter([_numbered(COUNT)]), model)
    assert hold_out(stream) == (stream, None)


def test_images_are_held_out_too(tmp_path: Path) -> None:
    for place in range(ENOUGH):
        Image.fromarray(np.full((8, 8, 3), place % 256, np.uint8)).save(tmp_path / f"{place:05}.png")
    model = smartc.trace(small(), torch.zeros(2, *SHAPE))
    learned, held = hold_out(load_samples(tmp_path, model, "unit"))
    assert held is not None
    assert (learned.count, held.count) == (ENOUGH - ENOUGH // 10, ENOUGH // 10)
    assert len(next(held.in_order(7)).inputs[0]) == 7


def _report(count: int) -> smartc.Compiled:
    """Learn from so many samples."""
    return smartc.compile(
        small(),
        torch.zeros(2, *SHAPE),
        target="npu-8x8",
        granularity="channel",
        backends=(),
        data=torch.randn(count, *SHAPE),
        settings=smartc.Settings(steps=2),
    )


def test_the_report_says_which_samples_it_compares_on() -> None:
    report = _report(20).report
    assert [remark.text for remark in report.remarks if remark.where == "agreement" and remark.level == "note"] == [
        BOTH
    ]
    report = _report(ENOUGH).report
    assert report.agreement.inputs == ENOUGH // 10
    assert report.learning is not None
    assert report.learning.samples == ENOUGH - ENOUGH // 10
    assert BOTH not in [remark.text for remark in report.remarks]
