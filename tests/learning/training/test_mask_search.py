"""A search on a model's graph: the model to train, its curve, and what its masks become."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smartc.learning.learners.learner import fractional_share
from smartc.learning.training import mask_search
from smartc.learning.training.mask_search import CURVE_POINTS, MaskSearch
from tests.support.learning_networks import images, search, traced, train
from tests.support.oracle import FLOAT32_TOLERANCE, relative_error


def _sgd(found: MaskSearch) -> torch.optim.Optimizer:
    """Return an optimizer over all parameters."""
    return torch.optim.SGD(found.model.parameters(), lr=1e-2)


def test_the_search_ends_after_its_share_of_the_steps_and_says_so_once() -> None:
    found = search(steps=12)
    told: list[int] = []
    found.on_hard = lambda same: told.append(same.done)
    met = []
    train(found, _sgd(found), lambda: met.append((found.searching, found.met == 1.0)))
    assert told == [found.search_steps]
    assert [searching for searching, _ in met] == [step < told[0] for step in range(1, 13)]
    # The budget tightens over the first half of a search.
    assert [full for _, full in met] == [2 * step >= told[0] for step in range(1, 13)]
    assert found.keep is not None


def test_the_model_that_was_given_stays_as_it_was() -> None:
    before = {name: tensor.clone() for name, tensor in traced().graph_module.state_dict().items()}
    found = search(steps=4)
    train(found, _sgd(found))
    after = traced().graph_module.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    learned = found.learned().graph_module.state_dict()
    assert learned.keys() == after.keys()
    assert not all(torch.equal(tensor, learned[name]) for name, tensor in before.items())


@pytest.mark.parametrize("granularity", ["4x4", "channel", "2:4"])
def test_with_everything_kept_the_masked_model_is_the_model(granularity: str) -> None:
    found = search(granularity, sparsity=None if granularity == "2:4" else 0.0)
    found.keep = np.ones(found.units.count, dtype=bool)
    found.learner.searching = False
    inputs = images(4)
    with torch.no_grad():
        expected = traced().graph_module(inputs)
        assert relative_error(expected, found.masked_for_proof().graph_module(inputs)) <= FLOAT32_TOLERANCE
        assert relative_error(expected, found.learned().graph_module(inputs)) <= FLOAT32_TOLERANCE


@pytest.mark.parametrize("granularity", ["4x4", "channel", "2:4"])
def test_what_is_learned_is_the_masked_model_without_masks(granularity: str) -> None:
    found = search(granularity)
    train(found, _sgd(found))
    inputs = images(4)
    with torch.no_grad():
        masked, learned = (model.graph_module(inputs) for model in (found.masked_for_proof(), found.learned()))
    assert relative_error(learned, masked) < 1e-5  # float32


def test_the_curve() -> None:
    found = search(steps=4)
    states = []
    while found.done < 4:
        found.model(images(8)).square().mean().backward()
        states.append(found.step(found.done / 8))
    assert found.curve == states
    assert [state.step for state in states] == [0, 1, 2, 3]
    assert [state.loss for state in states] == [0.0, 0.125, 0.25, 0.375]
    assert states[0].density == pytest.approx((1.0,) * len(found.units.names), abs=1e-5)
    assert found.keep is not None
    assert states[3].density == pytest.approx(tuple(found.units.density(torch.from_numpy(found.keep))))
    assert states[3].fractional == 0
    assert states[3].temperature is None


@pytest.mark.parametrize("granularity", ["4x4", "channel"])
def test_a_mask_is_looked_at_once(granularity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[torch.Tensor] = []

    def noted(mask: torch.Tensor) -> float:
        looked.append(mask.clone())
        return fractional_share(mask)

    monkeypatch.setattr(mask_search, "fractional_share", noted)
    found = search(granularity, steps=8, learner="magnitude")
    for step in range(8):
        found.model(images(8, seed=step)).square().mean().backward()
        found.step()
    # Twice as the search ends: as it was, and hard.
    assert len(found.curve) == 8
    assert len(looked) <= 3


def test_evaluation_leaves_statistics_alone() -> None:
    found = search()
    statistics = [buffer.clone() for name, buffer in found.model.named_buffers() if "running" in name]
    found.model.eval()
    with torch.no_grad():
        alone, among = found.model(images(1)), found.model(torch.cat([images(1), images(7, seed=2)]))[:1]
    assert torch.allclose(alone, among, atol=1e-6)
    now = [buffer for name, buffer in found.model.named_buffers() if "running" in name]
    assert len(now) > 0
    assert all(map(torch.equal, statistics, now))
    found.model.train()(images(8))
    assert not any(map(torch.equal, statistics, now))


def test_a_long_curve_is_thinned_and_ends_with_the_last_step() -> None:
    found = search(learner="magnitude", steps=3 * CURVE_POINTS + 50)
    found.harden_if_due()
    for _ in range(found.steps):
        found.step(torch.tensor(1.0))
    assert CURVE_POINTS <= len(found.curve) <= CURVE_POINTS * 1.5
    assert found.curve[0].step == 0
    assert found.curve[-1].step == found.steps - 1


def test_masks_can_be_made_hard_before_their_time() -> None:
    found = search(sparsity=0.75, steps=50)
    learned = found.learned()
    assert found.keep is not None
    assert int(found.keep.sum()) == round(0.25 * found.units.count)
    assert not found.searching
    assert learned.graph_module(images(2)).shape == (2, 10)


def test_other_weights_are_taken_over() -> None:
    found = search(sparsity=0.5)
    found.harden()
    doubled = {name: tensor * 2 for name, tensor in found.learned().graph_module.state_dict().items()}
    found.take(found.learned().with_tensors(doubled))
    taken = found.learned().graph_module.state_dict()
    assert all(torch.equal(taken[name], tensor) for name, tensor in doubled.items())


def test_the_model_of_several_processes_shares_its_tensors() -> None:
    found = search()
    several = dict(found.model_of_several().named_parameters())
    own = dict(found.model.named_parameters())
    assert several.keys() == own.keys()
    assert all(several[name] is own[name] for name in own)
