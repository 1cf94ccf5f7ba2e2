"""Masks in a training loop of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import smartc
from smartc.core.errors import UserError
from smartc.results.figures import ReportRemark
from tests.support.learning_networks import Sentences, convolutions, images, sentences, traced

INPUTS = images(8)
LABELS = torch.arange(8) % 10


def test_a_loop_of_ones_own() -> None:
    model, criterion = convolutions(), nn.CrossEntropyLoss()
    search = smartc.prepare(model, INPUTS, target="npu-8x8", sparsity=0.6, granularity="4x4", steps=10)
    optimizer = torch.optim.SGD(search.model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    for _ in range(10):
        optimizer.zero_grad()
        loss = criterion(search.model(INPUTS), LABELS)
        loss.backward()
        optimizer.step()
        search.step(loss)
    compiled = search.finish(backends=(), data=INPUTS)
    report = compiled.report
    assert all(proof.passed for proof in report.verify)
    assert (report.budget.asked, report.budget.reached) == ("0.6", "0.599")  # 194 of 324 blocks
    assert report.agreement.inputs == 8
    learning = report.learning
    assert learning is not None
    assert (learning.learner, learning.objective, learning.source) == ("smart", "a loop of the user's own", "")
    assert (learning.steps, learning.search_steps, learning.samples) == (10, search.search.search_steps, None)
    assert len(learning.losses) == 10
    assert learning.losses[-1] == float(loss)
    assert compiled(INPUTS).shape == (8, 10)


def _trained(module: Any, search: Any, *, autocast: bool = False) -> smartc.Compiled:
    """Train for all steps and compile."""
    optimizer = torch.optim.AdamW(search.model.parameters(), lr=1e-3)
    while search.search.done < search.search.steps:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = nn.functional.cross_entropy(module(INPUTS), LABELS)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        search.step(loss)
    result: smartc.Compiled = search.finish(backends=())
    return result


@pytest.mark.parametrize("granularity", ["4x4", "channel", "2:4"])
def test_under_autocast(granularity: str) -> None:
    search = smartc.prepare(traced(), target="npu-8x8", granularity=granularity, steps=4)
    report = _trained(search.model, search, autocast=True).report
    assert all(proof.passed for proof in report.verify)
    learned = search.search.learned().graph_module.parameters()
    assert {parameter.dtype for parameter in learned} == {torch.float32}


@pytest.mark.slow
def test_compiled_by_torch() -> None:
    """The compiled module learns the masks that the plain one does, to the bit."""
    plans = []
    for wrap in (lambda model: model, lambda model: torch.compile(model, backend="eager")):
        search = smartc.prepare(traced(), target="npu-8x8", granularity="4x4", sparsity=0.6, steps=6)
        plans.append(_trained(wrap(search.model), search).plan)
    assert plans[0] == plans[1]


@pytest.mark.parametrize(("granularity", "budget"), [("4x4", {"sparsity": 0.5}), ("2:4", {})])
def test_text(granularity: str, budget: dict[str, Any]) -> None:
    model, inputs = Sentences().eval(), sentences(8)
    with torch.no_grad():
        expected = model(**inputs)
    search = smartc.prepare(model, inputs, target="npu-8x8", granularity=granularity, steps=6, **budget)
    optimizer = torch.optim.Adam(search.model.parameters(), lr=1e-3)
    for _ in range(6):
        optimizer.zero_grad()
        loss = (search.model(**inputs) - expected).square().mean()
        loss.backward()
        optimizer.step()
        search.step(loss)
    compiled = search.finish(backends=())
    assert all(proof.passed for proof in compiled.report.verify)
    assert {"wide.weight", "narrow.weight"} <= set(compiled.plan.masks)
    assert compiled(**inputs).shape == (8, 16)


def test_unfinished_masks_are_made_hard(tmp_path: Path) -> None:
    search = smartc.prepare(traced(), target="npu-8x8", granularity="4x4", sparsity=0.75, steps=50)
    with pytest.warns(UserWarning, match="finish was called after 0 of 50 steps") as caught:
        compiled = search.finish(backends=())
    early = "finish was called after 0 of 50 steps; the masks were still being searched for"
    text = f"{early}: take all of them, or prepare for "
    assert [str(warning.message) for warning in caught] == [f"{text}fewer"]
    assert caught[0].filename == __file__
    assert compiled.report.remarks[0] == ReportRemark("learning", f"{text}fewer", "warning")
    assert compiled.plan.budget["reached"] == "0.750"
    compiled.save(tmp_path / "build")
    saved = smartc.load(tmp_path / "build").plan
    assert (saved.masks, saved.tensors, saved.budget) == (
        compiled.plan.masks,
        compiled.plan.tensors,
        compiled.plan.budget,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps: 0 is no number of steps. Give how many steps the loop will take."),
        ({"steps": 1.5}, "steps: 1.5 is no number of steps. Give how many steps the loop will take."),
        ({"steps": True}, "steps: True is no number of steps. Give how many steps the loop will take."),
        (
            {"learner": "luck"},
            "learner='luck': not known. Choose one of smart, pdp, sp-lamp, magnitude, taylor, ac-dc.",
        ),
        ({"sparsity": 1.0}, "sparsity=1.0: not a share of channels. Give a number from 0 to less than 1."),
        (
            {"granularity": "4:2"},
            "granularity='4:2': not known. "
            "Choose one of auto, channel, block, RxC such as 16x8, RxC/shared, or n:m such as 2:4.",
        ),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        smartc.prepare(traced(), target="npu-8x8", **({"steps": 5} | options))
    assert str(caught.value) == message


def test_a_budget_that_cannot_be_met_is_told_at_once() -> None:
    with pytest.raises(UserError, match=r"^latency='0\.001x': removing .* at best 0\.\d+x"):
        smartc.prepare(traced(), target="npu-8x8", granularity="4x4", latency="0.001x", steps=5)


def test_wrong_arguments_of_finish() -> None:
    search = smartc.prepare(traced(), target="npu-8x8", granularity="4x4", steps=5)
    with pytest.raises(UserError) as caught:
        search.finish(backends=("cobol",))
    assert str(caught.value).startswith("backends=('cobol',): not known. Choose one of ")
    assert search.search.keep is None


@pytest.mark.parametrize(
    ("granularity", "fact"),
    [
        ("channel", "there are no channels that can be removed (0.weight: is a model output)"),
        ("2:4", "there are no weights that can be removed (0: has fewer than 4 input channels)"),
    ],
)
def test_a_network_with_nothing_to_mask_is_refused_at_once(granularity: str, fact: str) -> None:
    with pytest.raises(UserError) as raised:
        smartc.prepare(
            nn.Sequential(nn.Linear(2, 3)), torch.randn(4, 2), target="npu-8x8", steps=3, granularity=granularity
        )
    assert str(raised.value) == f"Sequential: {fact}. Train the model without masks."
