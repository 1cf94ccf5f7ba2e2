"""Scores move by their gradient in steps relative to the mean size of all, and go on from where they were."""

from __future__ import annotations

import torch

from smartc.learning.learners.score_momentum import ScoreMomentum

RATE = 0.02
# What float32 leaves of one minus the thirtieth power of a number next to one.
ROUNDING = 1e-4


def test_a_steady_gradient_moves_each_score_in_proportion() -> None:
    scores, gradient = torch.zeros(5), torch.tensor([-4.0, 0.0, 1.0, 2.0, 3.0])
    momentum = ScoreMomentum(scores, RATE)
    for _ in range(30):
        momentum.move(scores, gradient)
    torch.testing.assert_close(scores, -30 * RATE * gradient / 2, rtol=ROUNDING, atol=0)


def test_no_scale_of_the_loss_matters() -> None:
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(20, 7, generator=generator)
    moved = []
    for scale in (1.0, 1e6, 1e-6):
        scores = torch.zeros(7)
        momentum = ScoreMomentum(scores, RATE)
        for gradient in gradients:
            momentum.move(scores, gradient * scale)
        moved.append(scores)
    for other in moved[1:]:
        torch.testing.assert_close(other, moved[0])


def test_without_gradient_nothing_moves() -> None:
    scores = torch.ones(3)
    ScoreMomentum(scores, RATE).move(scores, torch.zeros(3))
    assert torch.equal(scores, torch.ones(3))


def test_it_goes_on_from_its_state() -> None:
    gradients = torch.randn(10, 4, generator=torch.Generator().manual_seed(1))
    whole, parts = torch.zeros(4), torch.zeros(4)
    momentum = ScoreMomentum(whole, RATE)
    for gradient in gradients:
        momentum.move(whole, gradient)
    first = ScoreMomentum(parts, RATE)
    for gradient in gradients[:5]:
        first.move(parts, gradient)
    second = ScoreMomentum(parts, RATE)
    second.restore(first.state())
    for gradient in gradients[5:]:
        second.move(parts, gradient)
    assert torch.equal(parts, whole)
