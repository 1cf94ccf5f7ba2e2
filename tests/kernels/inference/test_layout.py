"""Layouts read the same elements that PyTorch's views read."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smartc.kernels.inference.layout import Grid, Layout, plain

SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=4)


def elements(layout: Layout) -> torch.Tensor:
    """Return the places of a layout's elements, in its shape."""
    return torch.as_strided(torch.arange(layout.size), layout.shape, layout.strides, layout.offset)


@given(SIZES, st.data())
def test_reshaping_agrees_with_a_view(shape: list[int], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(shape))))
    layout = plain(shape).permuted(order)
    tensor = torch.arange(math.prod(shape)).reshape(shape).permute(order)
    factors = data.draw(st.permutations([size for size in tensor.shape for size in _factors(size)] or [1]))
    wanted = tuple(data.draw(st.permutations([*factors])))
    reshaped = layout.reshaped(wanted)
    try:
        expected = tensor.view(wanted)
    except RuntimeError:
        assert reshaped is None
    else:
        assert reshaped is not None
        assert torch.equal(elements(reshaped), expected)


def _factors(size: int) -> tuple[int, ...]:
    return (2, 2) if size == 4 else (size,)


@given(SIZES, st.data())
def test_slicing_agrees_with_indexing(shape: list[int], data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    start = data.draw(st.integers(0, shape[axis] - 1))
    step = data.draw(st.integers(1, 3))
    tensor = torch.arange(math.prod(shape)).reshape(shape)
    places = range(start, shape[axis], step)
    layout = plain(shape).sliced(axis, start, len(places), step)
    assert torch.equal(elements(layout), tensor.index_select(axis, torch.tensor(list(places))))


@pytest.mark.parametrize("size", [(1, 1), (7, 7), (3, 20)])
@pytest.mark.parametrize("gap", [0, 1, 3])
@pytest.mark.parametrize("lanes", [4, 16])
def test_a_grid_has_zeros_wherever_a_shift_by_its_gap_leaves_the_map(
    size: tuple[int, int], gap: int, lanes: int
) -> None:
    grid = Grid(*size, gap, lanes)
    layout = grid.layout(1, 2)
    buffer = np.zeros(layout.size, np.float32)
    places = elements(layout).numpy()
    buffer[places.ravel()] = 1
    padded = np.pad(np.ones((1, 2, *size), np.float32), ((0, 0), (0, 0), (gap, gap), (gap, gap)))
    for down in range(-gap, gap + 1):
        for right in range(-gap, gap + 1):
            read = buffer[places + down * grid.pitch + right]
            window = padded[:, :, gap + down : gap + down + size[0], gap + right : gap + right + size[1]]
            np.testing.assert_array_equal(read, window)
    assert grid.length % lanes == grid.lead % lanes == 0


def test_only_what_numpy_would_make_is_plain() -> None:
    assert plain((2, 1, 3)).plain
    assert not plain((2, 3)).permuted((1, 0)).plain
    assert not plain((2, 3)).sliced(0, 0, 1).plain
