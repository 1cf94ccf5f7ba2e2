"""What the benchmark of budgets finds: the price that was foreseen is the price that is reached, near the budget."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.budgets import BUDGETS, GRANULARITIES, Outcome, captured, outcome

# The most of a budget that may be left over, in the mean of several.
LEFT_OVER = 0.03


@pytest.mark.slow
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("target", ["npu-8x8", "npu-32x32-dense"])
def test_budgets_of_a_network_of_torchvision_are_met_from_nearby(target: str, granularity: str) -> None:
    model = captured("mobilenet_v2")
    found = [outcome(model, target, budget, granularity) for budget in BUDGETS]
    met = [one for one in found if not one.refused]
    for one in met:
        assert one.foreseen == pytest.approx(one.reached, rel=1e-9)
        assert one.reached <= one.asked * (1 + 1e-9)
    assert len(met) >= 2
    assert np.mean([one.undershoot for one in met]) < LEFT_OVER


def test_a_line_says_what_was_asked_and_what_became_of_it() -> None:
    assert str(Outcome(0.5, 0.499, 0.498)) == "0.5000  0.4990  0.4980    0.4 %"
    assert str(Outcome(0.5, refused="too little")) == "0.5000  refused: too little"
