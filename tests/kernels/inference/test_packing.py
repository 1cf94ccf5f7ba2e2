"""Packing a weight keeps all of it and nothing else."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from smartc.kernels.inference.packing import Columns, Floats, pack


@st.composite
def weights(draw: st.DrawFn) -> tuple[Floats, int, int]:
    """Return a weight with zero blocks, the rows of a column and the groups of its convolution."""
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    out, inner, taps = draw(st.integers(1, 9)) * groups, draw(st.integers(1, 5)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 16)))
    weight = rng.standard_normal((out, inner, taps, 1)).astype(np.float32)
    weight *= rng.random((out, inner, taps, 1)) < draw(st.sampled_from([0, 0.1, 0.6, 1]))
    return weight, draw(st.sampled_from([4, 8])), groups


def unpacked(columns: Columns, rows: int, shape: tuple[int, int, int]) -> Floats:
    """Return the weight of a convolution without groups that the columns are."""
    full = np.zeros((columns.groups * rows, *shape[1:]), np.float32)
    for group in range(columns.groups):
        for column in range(columns.row_ptr[group], columns.row_ptr[group + 1]):
            place = slice(group * rows, (group + 1) * rows)
            full[place, columns.channel[column], columns.tap[column]] += columns.values[column]
    assert not full[shape[0] :].any()
    return full[: shape[0]]


def ungrouped(weight: Floats, groups: int) -> Floats:
    """Return the weight of the same convolution without groups, shape (out, in, taps)."""
    out, inner, taps = weight.shape[:3]
    full = np.zeros((out, inner * groups, taps), np.float32)
    for row in range(out):
        group = row // (out // groups)
        full[row, group * inner : (group + 1) * inner] = weight[row, :, :, 0]
    return full


@given(weights())
def test_unpacking_gives_the_weight_back(case: tuple[Floats, int, int]) -> None:
    weight, rows, groups = case
    wanted = ungrouped(weight, groups)
    columns = pack(weight, rows, groups)
    np.testing.assert_array_equal(unpacked(columns, rows, wanted.shape), wanted)  # type: ignore[arg-type]
    assert (columns.values != 0).any(axis=1).all()


@given(weights())
def test_a_dense_layer_keeps_its_zeros(case: tuple[Floats, int, int]) -> None:
    weight, rows, groups = case
    columns = pack(weight, rows, groups, keep_zeros=True)
    wanted = ungrouped(np.ones_like(weight), groups)
    ones = pack(np.ones_like(weight), rows, groups)
    np.testing.assert_array_equal(columns.row_ptr, ones.row_ptr)
    np.testing.assert_array_equal(
        unpacked(columns, rows, wanted.shape),  # type: ignore[arg-type]
        ungrouped(weight, groups),
    )


@given(weights(), st.sampled_from([(4, 1), (2, 1), (1, 2), (1, 3)]))
def test_runs_are_whole_and_hold_the_weight(case: tuple[Floats, int, int], run: tuple[int, int]) -> None:
    weight, rows, groups = case
    fits = weight.shape[1] % run[0] == 0 and weight.shape[2] % run[1] == 0
    wanted = ungrouped(weight, groups)
    columns = pack(weight, rows, groups, runs=[run] if fits else [run, (1, 1)])
    assert columns.run == (run if fits else (1, 1))
    np.testing.assert_array_equal(unpacked(columns, rows, wanted.shape), wanted)  # type: ignore[arg-type]
    assert not (columns.row_ptr % columns.length).any()
    taps = np.arange(weight.shape[2], dtype=np.int32) * 3
    first, steps = columns.offsets(100, taps)[:: columns.length], columns.steps(100, taps)
    np.testing.assert_array_equal(np.add.outer(first, steps).ravel(), columns.offsets(100, taps))


def test_the_runs_that_cost_least_are_taken() -> None:
    weight = np.ones((8, 8, 1, 3), np.float32)
    assert pack(weight, 8, runs=[(4, 1), (1, 3), (1, 1)]).run == (4, 1)
    weight[:, 1::4] = weight[:, 2::4] = weight[:, 3::4] = 0
    assert pack(weight, 8, runs=[(4, 1), (1, 3), (1, 1)]).run == (1, 3)
    weight[..., 1:] = 0
    assert pack(weight, 8, runs=[(4, 1), (1, 3), (1, 1)]).run == (1, 1)


def test_columns_come_by_group_then_channel_then_tap() -> None:
    weight = np.zeros((9, 2, 1, 2), np.float32)
    weight[0, 1, 0, 1] = weight[3, 1, 0, 1] = weight[2, 0, 0, 0] = weight[8, 1, 0, 0] = 1
    columns = pack(weight, 8)
    assert columns.row_ptr.tolist() == [0, 2, 3]
    assert columns.channel.tolist() == [0, 1, 1]
    assert columns.tap.tolist() == [0, 1, 0]
    assert columns.offsets(100, np.array([7, 8], np.int32)).tolist() == [7, 108, 107]
