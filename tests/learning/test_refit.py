"""What channels leave is refitted to the dense model when they go, by what the model has seen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import smartc
from smartc.learning import refit as refit_module
from smartc.learning.learners.smart import Smart
from smartc.learning.refit import MOST_NUMBERS, MOST_SAMPLES, samples_to_fit
from smartc.learning.statistics.latest_inputs import LatestInputs
from smartc.learning.training.mask_search import MaskSearch
from tests.support.learning_networks import SHAPE, Sentences, images, search, sentences, traced
from tests.support.oracle import FLOAT32_TOLERANCE, relative_error

pytestmark = pytest.mark.slow

STEPS = 300


def _left(found: MaskSearch) -> float:
    """Return how far the learned model's outputs are from the dense model's, as a share of these."""
    inputs = (images(256, seed=9),)
    expected = traced().run(inputs)
    return float((found.learned().run(inputs) - expected).square().mean() / expected.square().mean())


def _hardened(granularity: str = "channel", learner: str = "smart", compiled: bool = False) -> smartc.Preparation:
    """Return a loop of one's own, run on images until the masks are hard; the weights do not move."""
    loop = smartc.prepare(traced(), target="npu-8x8", granularity=granularity, learner=learner, steps=STEPS)
    model: Any = torch.compile(loop.model, backend="eager") if compiled else loop.model
    while loop.search.searching:
        (model(images(64, seed=loop.search.done)) ** 2).mean().backward()
        loop.step()
    return loop


def test_the_loop_of_ones_own_refits_to_what_it_has_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = _hardened()
    monkeypatch.setattr(Smart, "rank", lambda *_: None)
    refitted = _hardened()
    monkeypatch.setattr(Smart, "refits", False)
    plain = _hardened()
    assert (refitted.search.keep == plain.search.keep).all()
    assert _left(chosen.search) < _left(refitted.search) < 0.8 * _left(plain.search)


@pytest.mark.parametrize(
    ("granularity", "learner", "compiled"),
    [("4x4", "smart", False), ("2:4", "smart", False), ("channel", "pdp", False), ("channel", "smart", True)],
)
def test_nothing_else_is_refitted(
    granularity: str, learner: str, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refit_module, "reconstruct", lambda *_, **__: pytest.fail("refitted"))
    assert _hardened(granularity, learner, compiled).search.keep is not None


def test_processes_that_train_together_are_not_refitted_each_to_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refit_module, "reconstruct", lambda *_, **__: pytest.fail("refitted"))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    assert _hardened().search.keep is not None


def test_a_loop_that_never_ran_the_model_is_finished_as_well() -> None:
    loop = smartc.prepare(traced(), target="npu-8x8", granularity="channel", steps=STEPS)
    assert all(proof.passed for proof in loop.finish(backends=()).report.verify)


def test_many_samples_are_refitted_to(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    own = refit_module.reconstruct

    def noted(*arguments: Any, **options: Any) -> Any:
        seen.append(sum(len(batch[0]) for batch in arguments[3]))
        return own(*arguments, **options)

    monkeypatch.setattr(refit_module, "reconstruct", noted)
    settings = smartc.Settings(steps=STEPS, batch=100)
    data = images(1200)
    smartc.compile(traced(), target="npu-8x8", granularity="channel", data=data, backends=(), settings=settings)
    assert seen == [MOST_SAMPLES // 100 * 100]


def test_only_the_latest_samples_are_kept_and_the_last_first() -> None:
    model = traced()
    module = model.graph_module
    latest = LatestInputs(module, model, 20)
    batches = [images(8, seed=place) for place in range(5)]
    for batch in batches:
        module(batch)
    taken = latest.take()
    expected = [batches[4], batches[3], batches[2][:4]]
    assert [len(batch) for (batch,) in taken] == [8, 8, 4]
    assert all(torch.equal(batch, own) for (batch,), own in zip(taken, expected, strict=True))
    module(batches[0])
    assert latest.take() == []


def test_evaluations_are_not_noted() -> None:
    model = traced()
    latest = LatestInputs(model.graph_module, model, 100)
    seen = images(8)
    model.graph_module(seen)
    with torch.no_grad():
        model.graph_module(images(8, seed=2))
    ((batch,),) = latest.take()
    assert torch.equal(batch, seen)


def test_named_arguments_are_taken_in_the_order_of_the_graph() -> None:
    model = smartc.trace(Sentences(), sentences(2))
    latest = LatestInputs(model.graph_module, model, 100)
    inputs = sentences(8)
    expected = model.graph_module(**inputs)
    (taken,) = latest.take()
    assert relative_error(expected, model.run(taken)) <= FLOAT32_TOLERANCE


def test_large_activations_allow_for_fewer_samples() -> None:
    assert samples_to_fit(traced()) == MOST_SAMPLES
    wide = smartc.trace(nn.Conv2d(3, 4096, 1), torch.zeros(2, *SHAPE[:1], 64, 64))
    assert samples_to_fit(wide) == MOST_NUMBERS // (4096 * 64 * 64) == 2


def test_refits_are_of_short_searches_only() -> None:
    assert [search(granularity).learner.refits for granularity in ("channel", "4x4", "2:4")] == [True, False, False]
