"""Interpolation of times: exact where measured, never falling, in proportion beyond."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartc.targets.cost_grid import CostGrid

AXES = (np.array([8.0, 64.0, 512.0]), np.array([49.0, 784.0]))


def test_returns_what_was_measured() -> None:
    times = np.array([[1.0, 10.0], [3.0, 40.0], [20.0, 300.0]])
    grid = CostGrid(AXES, times, (0.5, 0.5))
    found = grid.at(AXES[0][:, None], AXES[1][None, :])
    np.testing.assert_allclose(found, times, rtol=1e-12)


def test_a_power_law_is_met_between_and_beyond() -> None:
    sizes = AXES[0][:, None] * AXES[1][None, :]
    grid = CostGrid(AXES, sizes, (1.0, 1.0))
    np.testing.assert_allclose(grid.at(np.array([1, 20, 4000]), np.array([3, 100, 9000])), [3, 2000, 36e6], rtol=1e-12)


def test_below_the_smallest_time_falls_with_its_power() -> None:
    grid = CostGrid((np.array([16.0]),), np.array([8.0]), (0.5,))
    np.testing.assert_allclose(grid.at(np.array([4, 16, 32])), [4, 8, 16], rtol=1e-12)


def test_a_fall_between_neighbours_is_split_among_them() -> None:
    grid = CostGrid((np.array([1.0, 2.0, 4.0]),), np.array([8.0, 2.0, 16.0]), (0.0,))
    np.testing.assert_allclose(grid.at(np.array([1, 2, 4])), [4, 4, 16], rtol=1e-12)


@given(seed=st.integers(0, 2**32 - 1))
def test_time_never_falls_where_a_size_grows(seed: int) -> None:
    random = np.random.default_rng(seed)
    grid = CostGrid(AXES, random.uniform(0.1, 10, (3, 2)), (0.5, 1.0))
    small = random.uniform(1, 2000, (2, 200))
    large = small * random.uniform(1, 4, small.shape)
    before, after = grid.at(*small), grid.at(*large)
    assert (after >= before * (1 - 1e-12)).all()
    assert (before > 0).all()


@pytest.mark.parametrize("size", [0, 1])
def test_nothing_takes_a_time_that_is_not_negative(size: int) -> None:
    grid = CostGrid(AXES, np.ones((3, 2)), (0.5, 0.5))
    assert 0 <= float(grid.at(np.array(size), np.array(size))) <= 1
