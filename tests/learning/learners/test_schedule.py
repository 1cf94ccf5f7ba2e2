"""The schedule of a search: a row for each granularity, and what the data change of it."""

from __future__ import annotations

import pytest

from smartc.learning.learners.schedule import SCHEDULES, schedule_for
from smartc.masks.granularity import BlockGranularity, ChannelGranularity, Granularity, PatternGranularity

BLOCKS, CHANNELS, PATTERNS = BlockGranularity(8, 8), ChannelGranularity(), PatternGranularity(2, 4)


@pytest.mark.parametrize(
    ("granularity", "rates"),
    [
        (BLOCKS, {0: 0.05, 100: 0.05, 500: 0.02, 10**4: 0.01}),
        (CHANNELS, {1: 0.05, 10: 0.01, 100: 0.001}),
        (PATTERNS, {1: 0.05, 10: 0.01, 100: 0.001}),
    ],
)
def test_scores_reach_their_distance_within_bounds(granularity: Granularity, rates: dict[int, float]) -> None:
    schedule = schedule_for(granularity, no_batch_norm=False, few_samples=False)
    assert {steps: schedule.score_rate(steps) for steps in rates} == pytest.approx(rates)


@pytest.mark.parametrize("granularity", [BLOCKS, CHANNELS, PATTERNS])
def test_without_batch_norms_all_goes_more_gently(granularity: Granularity) -> None:
    row = SCHEDULES[type(granularity)]
    without = schedule_for(granularity, no_batch_norm=True, few_samples=False)
    assert without.hottest < row.hottest
    assert without.weight_rate < row.weight_rate
    assert without.tightening > row.tightening
    assert without.score_rate(1) == 0.01 < row.score_rate(1)
    assert (without.coldest, without.share) == (row.coldest, row.share)


@pytest.mark.parametrize("granularity", [BLOCKS, CHANNELS, PATTERNS])
def test_with_few_samples_a_search_is_as_short_for_all_and_masks_move_at_each_step(granularity: Granularity) -> None:
    few = schedule_for(granularity, no_batch_norm=True, few_samples=True)
    assert few.share == 0.05
    assert {few.hold(steps) for steps in (1, 100, 10**6)} == {1}
