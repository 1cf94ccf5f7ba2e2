"""Rows of flags: gathered where they overlap, and never worse than they were."""

from __future__ import annotations

import numpy as np
import pytest

from smartc.packing.gather_rows import gather_rows, held_columns


@pytest.mark.parametrize("size", [2, 3, 4, 8])
def test_finds_hidden_runs(size: int) -> None:
    random = np.random.default_rng(size)
    flags = np.kron(np.eye(6, dtype=bool), np.ones((size, 5), dtype=bool))
    shuffled = flags[random.permutation(len(flags))]
    order = gather_rows(shuffled, size)
    assert np.array_equal(np.sort(order), np.arange(len(flags)))
    assert held_columns(shuffled, size) > held_columns(flags, size) == 30
    assert held_columns(shuffled[order], size) == 30


def test_moves_halves_of_runs_together() -> None:
    pairs = np.repeat(np.eye(8, dtype=bool) | np.roll(np.eye(8, dtype=bool), 4, axis=1), 4, axis=0)
    assert held_columns(pairs, 8) == 16
    assert held_columns(pairs[gather_rows(pairs, 8)], 8) == 8


@pytest.mark.parametrize("density", [0.0, 0.02, 0.1, 0.5, 1.0])
@pytest.mark.parametrize(("rows", "size"), [(1, 8), (8, 8), (20, 8), (64, 16), (31, 5), (12, 1)])
def test_is_never_worse(rows: int, size: int, density: float) -> None:
    flags = np.random.default_rng(rows).random((rows, 40)) < density
    order = gather_rows(flags, size)
    assert np.array_equal(np.sort(order), np.arange(rows))
    assert held_columns(flags[order], size) <= held_columns(flags, size)


def test_gathers_overlapping_patterns() -> None:
    random = np.random.default_rng(0)
    wanted, offered = random.random((128, 1)), random.random((1, 200))
    flags = wanted + offered + 0.5 * random.random((128, 200)) > 1.9
    assert held_columns(flags[gather_rows(flags, 8)], 8) < 0.75 * held_columns(flags, 8)


def test_takes_no_columns() -> None:
    assert sorted(gather_rows(np.zeros((20, 0), dtype=bool), 8)) == list(range(20))
