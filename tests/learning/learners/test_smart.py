"""SMART: the soft mask meets its budget at every step, and only its own optimizer moves the scores."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import smartc
from smartc.core.errors import UserError
from smartc.learning.begin_search import new_search
from smartc.learning.learners import schedule, smart
from smartc.learning.learners.schedule import SCHEDULES, Schedule
from smartc.learning.learners.smart import Smart
from smartc.masks.granularity import BlockGranularity, ChannelGranularity, Granularity
from tests.support.learning_networks import SHAPE, images, job, search, train

BLOCKS = SCHEDULES[BlockGranularity]
# The sum of some hundred numbers in float32.
ROUNDING = 1e-5
BUDGETS: list[tuple[str, dict[str, Any]]] = [
    ("4x4", {"sparsity": 0.7}),
    ("4x4", {"latency": "0.7x"}),
    ("8x8", {"bytes": "0.6x"}),
    ("channel", {"macs": "0.6x"}),
    ("channel", {"sparsity": 0.5}),
    ("2:4", {}),
]


def _sgd(found: Any) -> torch.optim.Optimizer:
    """Return an optimizer over all parameters, those of the masks too."""
    return torch.optim.SGD(found.model.parameters(), lr=1e-2, weight_decay=0.1)


def _sums(learner: Smart) -> torch.Tensor:
    """Return what the soft mask adds up to, per group where there are groups."""
    with torch.no_grad():
        mask = learner.soft().double()
    assert bool(((mask >= 0) & (mask <= 1)).all())
    size = learner.inputs.budget.group_size
    if size:
        return mask.view(-1, size).sum(1)
    return (mask if learner.cost is None else mask * learner.cost.double()).sum()


@pytest.mark.slow
@pytest.mark.parametrize(("granularity", "budget"), BUDGETS)
def test_the_budget_of_the_moment_is_met_at_every_step(granularity: str, budget: dict[str, Any]) -> None:
    found = search(granularity, steps=400 if granularity == "channel" else 80, **budget)
    learner = found.learner
    assert isinstance(learner, Smart)
    errors, limits, temperatures, met = [], [], [], []

    def look() -> None:
        met.append(found.met)
        if found.searching:
            errors.append(float((_sums(learner) / learner.limit - 1).abs().max()))
            limits.append(float(learner.limit))
            temperatures.append(learner.current_temperature)

    look()
    train(found, _sgd(found), look)
    assert len(errors) == found.search_steps > 2
    assert max(errors) < ROUNDING
    assert temperatures[0] == pytest.approx(BLOCKS.hottest)
    assert all(later < sooner for sooner, later in itertools.pairwise(temperatures))
    assert met == sorted(met)
    assert met[-1] == 1
    # Prices change as the search goes, a count does not.
    if learner.cost is None:
        assert limits == sorted(limits, reverse=True)
        assert limits[-1] == pytest.approx(learner.inputs.budget.limit)


def test_at_the_start_everything_is_kept_and_at_the_end_next_to_nothing_is_fractional() -> None:
    found = search(sparsity=0.6, steps=60)
    learner = found.learner
    assert isinstance(learner, Smart)
    with torch.no_grad():
        assert bool((learner.soft() > 1 - ROUNDING).all())
    train(found, _sgd(found))
    assert found.keep is not None
    assert int(found.keep.sum()) == round(0.4 * found.units.count)
    assert found.units.count > 200
    assert found.fractional < 0.01
    end = found.search_steps
    assert found.curve[end - 1].temperature == pytest.approx(
        BLOCKS.hottest * (BLOCKS.coldest / BLOCKS.hottest) ** (1 - 1 / end)
    )
    assert found.curve[end].temperature is None


@pytest.mark.slow
def test_a_search_of_one_step_leaves_next_to_no_channel_fractional() -> None:
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Conv2d(3, 512, 1), nn.ReLU(), nn.Conv2d(512, 512, 1), nn.ReLU(), nn.Conv2d(512, 8, 1))
    for share in (0.37, 0.5):
        found = smartc.prepare(
            wide, torch.zeros(2, *SHAPE), target="npu-8x8", sparsity=share, granularity="channel", steps=50
        )
        found.model(images(2)).sum().backward()
        found.step()
        assert not found.search.searching
        assert found.search.fractional < 0.01


@pytest.mark.parametrize("granularity", ["4x4", "2:4"])
def test_the_optimizer_of_the_user_does_not_move_the_scores(granularity: str) -> None:
    """Even one with a huge rate and weight decay on them: only the gradients matter, which are the same."""
    ended = []
    for rate in (0.0, 1e3):
        found = search(granularity)
        scores = [found.learner.scores]
        others = [parameter for parameter in found.model.parameters() if parameter is not scores[0]]
        groups = [{"params": others}, {"params": scores, "lr": rate, "weight_decay": 0.5, "momentum": 0.9}]
        train(found, torch.optim.SGD(groups, lr=1e-2))
        assert found.keep is not None
        ended.append((found.keep, found.curve, found.model.state_dict()))
    assert np.array_equal(ended[0][0], ended[1][0])
    assert ended[0][1] == ended[1][1]
    others_equal = [
        torch.equal(ended[0][2][name], ended[1][2][name]) for name in ended[0][2] if not name.endswith(".scores")
    ]
    assert all(others_equal)


@pytest.mark.parametrize("granularity", ["4x4", "2:4"])
def test_evaluations_before_a_step_is_noted_change_nothing(granularity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the user's optimizer has moved the scores, and a mask that is to serve several steps may be due."""
    monkeypatch.setattr(schedule, "SHORTEST_SEARCH", 4)
    ended = []
    for evaluates in (False, True):
        found = search(granularity, steps=24)
        assert isinstance(found.learner, Smart)
        assert found.learner.hold > 1
        optimizer = torch.optim.AdamW(found.model.parameters(), lr=1e-2)
        while found.done < found.steps:
            optimizer.zero_grad()
            found.model(images(8, seed=found.done)).square().mean().backward()
            optimizer.step()
            if evaluates:
                found.model.eval()
                with torch.no_grad():
                    found.model(images(8, seed=99))
                found.model.train()
            found.step()
        ended.append((found.learned().graph_module.state_dict(), found.curve))
    assert ended[0][1] == ended[1][1]
    assert all(torch.equal(ended[0][0][name], tensor) for name, tensor in ended[1][0].items())


@pytest.mark.parametrize("granularity", ["4x4", "2:4"])
def test_scores_reach_as_far_where_masks_move_less_often(granularity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = replace(search(granularity).learner.inputs, steps=400)
    reached = []
    for hold in (1, 4):
        monkeypatch.setattr(Schedule, "hold", lambda own, steps, hold=hold: hold)
        learner = Smart(inputs)
        first = learner.values.clone()
        for step in range(inputs.steps):
            if not learner.held:
                learner.scores.grad = torch.ones_like(learner.scores)
            learner.advance(step + 1)
        reached.append(float((learner.values - first).mean()))
    assert reached[1] == pytest.approx(reached[0], rel=0.05)
    assert reached[0] < -0.05


def test_what_is_met_goes_on_with_a_state() -> None:
    found = search(steps=60)
    for step in range(4):
        found.model(images(8, seed=step)).square().mean().backward()
        found.step()
    other = search(steps=60).learner
    other.restore(found.learner.state())
    assert 0 < found.learner.met == other.met < 1


def test_an_order_ranks_what_it_knows() -> None:
    learner = search("channel").learner
    assert isinstance(learner, Smart)
    before, order = learner.values.clone(), np.arange(float(len(learner.values)))
    order[::3] = np.nan
    learner.rank(order)
    assert torch.equal(learner.values[::3], before[::3])
    assert torch.equal(learner.values[1::3], torch.arange(1.0, len(before), 3))


def test_a_step_without_gradients_is_an_error() -> None:
    found = search()
    with pytest.raises(UserError) as caught:
        found.step()
    assert str(caught.value) == (
        "step 1: the masks have no gradient. "
        "Call search.step() after loss.backward(), and before the gradients are set to zero."
    )


@pytest.mark.parametrize("granularity", ["4x4", "2:4"])
def test_in_a_long_search_a_mask_serves_several_steps(granularity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, row in SCHEDULES.items():
        monkeypatch.setitem(SCHEDULES, kind, replace(row, moves=5))
    monkeypatch.setattr(schedule, "SHORTEST_SEARCH", 21)
    found = search(granularity, steps=60)  # 21 of them search
    learner = found.learner
    assert isinstance(learner, Smart)
    assert learner.hold == 4
    masks, scores = [], []

    def look() -> None:
        if found.searching:
            scores.append(learner.values.clone())
            masks.append(learner.mask.clone())

    look()
    train(found, _sgd(found), look)
    for series in (scores, masks):
        moved = [not torch.equal(*pair) for pair in itertools.pairwise(series)]
        # In the first step everything is kept, and nothing has a gradient.
        assert moved[1:] == [step % 4 == 0 for step in range(1, 20)]
    assert found.fractional < 0.01


@pytest.mark.parametrize(
    ("granularity", "holds"),
    [
        ("4x4", {29: 1, 30: 2, 299: 2, 300: 3, 10**4: 8}),
        ("2:4", {29: 1, 30: 3, 328: 8, 10**4: 8}),
        ("channel", {29: 1, 10**4: 1}),
    ],
)
def test_masks_serve_longer_where_a_search_is_long(granularity: str, holds: dict[int, int]) -> None:
    inputs = search(granularity).learner.inputs
    assert {steps: Smart(replace(inputs, steps=steps)).hold for steps in holds} == holds


def test_masks_that_learn_from_few_samples_move_at_every_step() -> None:
    few = new_search(job(), 10**5, batch_norm=False, few_samples=True).learner
    assert few.inputs.steps > BLOCKS.longest_hold * BLOCKS.moves
    assert few.hold == 1


def test_of_channels_scores_decide_which_and_the_first_worth_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    kind: type[Granularity] = ChannelGranularity
    monkeypatch.setitem(SCHEDULES, kind, replace(SCHEDULES[kind], reach=10.0))
    found = search("channel", steps=2000, sparsity=0.5)
    learner = found.learner
    assert isinstance(learner, Smart)
    layer_of, importance = found.units.layer_of, learner.inputs.importance
    first = learner.inputs.budget.keep(importance)
    unwanted = torch.from_numpy(first).float()
    while found.searching:
        (learner.soft() * unwanted * torch.rand(len(first))).sum().backward()  # type: ignore[no-untyped-call]
        found.step()
    assert found.keep is not None
    assert np.array_equal(np.bincount(layer_of[found.keep]), np.bincount(layer_of[first]))
    assert not np.array_equal(found.keep, first)
    scores = learner.values.numpy()
    for layer in range(len(found.units.names)):
        own = layer_of == layer
        assert scores[own & found.keep].min() > scores[own & ~found.keep].max(initial=-np.inf)


@pytest.mark.parametrize(("granularity", "budget"), [("channel", {"sparsity": 0.5}), ("4x4", {}), ("2:4", {})])
def test_what_is_next_to_gone_is_gone(granularity: str, budget: dict[str, Any]) -> None:
    """Such masks would make numbers that processors are slow to compute with."""
    found = search(granularity, **budget)
    learner = found.learner
    assert isinstance(learner, Smart)
    learner.temperature.fill_(0.001)
    learner.limit.fill_(0.5 * float(learner.limit))
    mask = learner.soft()
    assert (mask == 0).any()
    assert mask[mask > 0].min() > smart.NEXT_TO_ZERO
    learner.temperature.fill_(BLOCKS.hottest)
    assert learner.soft().gt(0).all()


def test_scores_follow_their_gradient() -> None:
    """A unit whose removal lowers the loss goes though it would stay by its first score."""
    found = search(sparsity=0.5, steps=400)
    learner = found.learner
    assert isinstance(learner, Smart)
    unwanted = torch.zeros(found.units.count)
    order = learner.scores.detach().argsort(descending=True)
    unwanted[order[found.units.count // 4 : found.units.count // 2]] = 1.0
    while found.searching:
        if not learner.held:
            (learner.soft() * unwanted).sum().backward()  # type: ignore[no-untyped-call]
        found.step()
    assert found.keep is not None
    assert not found.keep[unwanted.bool().numpy()].any()
    assert int(found.keep.sum()) == round(0.5 * found.units.count)
