"""Every learner at every granularity ends with the budget met, and what it leaves is proved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from smartc.compile import emit_decision
from smartc.learning.decided import decided
from smartc.learning.learners.ac_dc import CYCLES, AcDc
from smartc.learning.learners.learner import fractional_share, standard_scores
from smartc.learning.learners.pdp import Pdp
from smartc.learning.learners.registry import LEARNERS
from smartc.learning.learners.taylor import Taylor
from smartc.learning.learning_facts import learning_facts
from smartc.learning.training.mask_search import MaskSearch
from smartc.proof.comparison import comparison_for
from tests.support.learning_networks import distance, job, search, train

GRANULARITIES: list[tuple[str, dict[str, Any]]] = [
    ("channel", {"sparsity": 0.5}),
    ("8x8", {"sparsity": 0.6}),
    ("block", {"latency": "0.8x"}),
    ("2:4", {}),
]


def _adam(found: MaskSearch) -> torch.optim.Optimizer:
    """Return an optimizer over all parameters, with weight decay."""
    return torch.optim.Adam(found.model.parameters(), lr=1e-3, weight_decay=0.01)


def _kept(found: MaskSearch) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which units stay."""
    assert found.keep is not None
    return found.keep


@pytest.mark.slow
@pytest.mark.parametrize(("granularity", "budget"), GRANULARITIES)
@pytest.mark.parametrize("learner", LEARNERS)
def test_the_budget_is_met_and_the_result_proved(learner: str, granularity: str, budget: dict[str, Any]) -> None:
    found = search(granularity, learner, steps=10, **budget)
    train(found, _adam(found))
    made = job(granularity, learner, **budget)
    comparison = comparison_for(made.original, None, None)
    compiled = emit_decision(made, decided(made, found, learning_facts(made, found)), comparison, ())
    report = compiled.report
    assert [proof.stage for proof in report.verify] == [
        "masks in the graph == masked (float64)",
        "masked == removed (float64)",
    ]
    assert all(proof.passed for proof in report.verify)
    kept = _kept(found)
    if granularity == "2:4":
        assert (kept.reshape(-1, 4).sum(1) == 2).all()
    elif granularity == "8x8":
        assert kept.sum() == round(0.4 * len(kept))
    elif granularity == "block":
        assert report.latency.compiled <= 0.8 * report.latency.dense * (1 + 1e-9)
    else:
        assert float(compiled.plan.budget["reached"]) >= 0.5
    assert report.learning is not None
    assert (report.learning.learner, report.learning.steps) == (learner, 10)
    _assert_zero_outside(found)


def _assert_zero_outside(found: MaskSearch) -> None:
    """Check that what a mask removed is zero in the model that was learned, and that something else is left."""
    learned = found.learned()
    for name, kept in found.units.supports(_kept(found)).items():
        weight = learned.tensor(name)
        assert bool((weight[~kept.expand_as(weight)] == 0).all())
        assert bool((weight[kept.expand_as(weight)] != 0).any())


@pytest.mark.parametrize("learner", ["sp-lamp", "magnitude"])
def test_one_shot_learners_decide_before_the_first_step(learner: str) -> None:
    found = search("4x4", learner, sparsity=0.6)
    assert found.search_steps == 0
    found.harden_if_due()
    before = _kept(found).copy()
    train(found, _adam(found))
    assert np.array_equal(before, _kept(found))


def test_magnitude_keeps_the_largest_of_every_layer_alike() -> None:
    found = search("4x4", "magnitude", sparsity=0.5)
    found.harden_if_due()
    kept, units = _kept(found), found.units
    energy = units.energy(found.original)
    for layer in range(len(units.names)):
        inside = units.layer_of == layer
        assert abs(kept[inside].mean() - 0.5) < 0.02
        assert energy[inside & kept].min() >= energy[inside & ~kept].max()


def test_sp_lamp_need_not_keep_as_much_of_every_layer() -> None:
    lamp, magnitude = (search("4x4", name, sparsity=0.5) for name in ("sp-lamp", "magnitude"))
    for found in (lamp, magnitude):
        found.harden_if_due()
    assert _kept(lamp).sum() == _kept(magnitude).sum()
    assert not np.array_equal(_kept(lamp), _kept(magnitude))


def test_pdp_masks_are_half_at_the_threshold_and_grow_sharper_in_the_end() -> None:
    found = search("4x4", "pdp", sparsity=0.6, steps=20)
    learner = found.learner
    assert isinstance(learner, Pdp)
    weights = [found.masked.tensor(name) for name in learner.measured]
    with torch.no_grad():
        assert bool((learner(*weights) == 1).all())
    learner.advance(found.search_steps)
    with torch.no_grad():
        mask, squares = learner(*weights).numpy(), learner.squares.numpy()
    for layer, count in enumerate(learner.kept):
        inside = found.units.layer_of == layer
        best = np.sort(squares[inside])[::-1]
        assert ((mask > 0.5) & inside).sum() == count
        middle = ((np.sqrt(best[count - 1]) + np.sqrt(best[count])) / 2) ** 2
        assert np.array_equal(mask[inside] > 0.5, squares[inside] > middle)
    # What is rounded in the end is next to nothing.
    assert fractional_share(torch.from_numpy(mask)) < 0.01


def test_pdp_needs_no_parameters_of_its_own_and_gives_the_weights_a_gradient_through_the_mask() -> None:
    found = search("4x4", "pdp", sparsity=0.6, steps=20)
    assert not list(found.learner.parameters())
    found.learner.advance(found.search_steps)
    weights = [found.masked.tensor(name).detach().clone().requires_grad_() for name in found.learner.measured]
    found.learner(*weights).sum().backward()
    assert all(weight.grad is not None and bool((weight.grad != 0).any()) for weight in weights)


def test_taylor_counts_the_square_of_weight_times_gradient() -> None:
    found = search("4x4", "taylor", sparsity=0.5, steps=20)
    learner = found.learner
    assert isinstance(learner, Taylor)
    assert found.search_steps == 2
    expected = np.zeros(found.units.count)
    for _ in range(2):
        found.model.zero_grad()
        distance(found.model, found.done).backward()  # type: ignore[no-untyped-call]
        for weight in found.units.weights:
            value = found.masked.tensor(weight.name)
            assert value.grad is not None
            expected[weight.part] += weight.layout.sums((value * value.grad).detach()).numpy() ** 2
        found.step()
    np.testing.assert_allclose(learner.total.numpy(), expected, rtol=1e-3, atol=expected.max() * 1e-6)
    for weight in found.units.weights:
        expected[weight.part] /= np.linalg.norm(expected[weight.part])
    assert expected[_kept(found)].min() >= expected[~_kept(found)].max() * (1 - 1e-3)


def test_ac_dc_takes_turns() -> None:
    found = search("4x4", "ac-dc", sparsity=0.5, steps=32)
    learner = found.learner
    assert isinstance(learner, AcDc)
    dense = []
    optimizer = _adam(found)
    train(found, optimizer, lambda: dense.append(bool((learner.mask == 1).all())) if found.searching else None)
    length = found.search_steps // (2 * CYCLES)
    assert dense == [step // length % 2 == 0 for step in range(1, found.search_steps)]
    assert int(_kept(found).sum()) == round(0.5 * found.units.count)


def test_the_share_that_is_fractional() -> None:
    assert fractional_share(torch.tensor([0.0, 0.01, 0.5, 0.9, 0.99, 1.0])) == pytest.approx(2 / 6)
    assert fractional_share(torch.zeros(0)) == 0


def test_standard_scores() -> None:
    scores = standard_scores(np.array([1.0, 2.0, 6.0]))
    assert (scores.mean(), scores.std()) == (pytest.approx(0), pytest.approx(1))
    assert (standard_scores(np.ones(3)) == 0).all()
