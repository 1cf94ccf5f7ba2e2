"""Packed weights: the round trip is exact for any shape, and the index says what it means."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smartc.masks.packed_weight import TileOrder, pack

TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@st.composite
def weights(draw: st.DrawFn) -> tuple[torch.Tensor, int, bool]:
    """Return a weight with zeros, the groups of its convolution, and whether it is transposed."""
    groups = draw(st.integers(1, 4))
    kernel = draw(st.lists(st.integers(1, 3), max_size=3))
    shape = (groups * draw(st.integers(0, 20)), draw(st.integers(0, 20)), *kernel)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    density = draw(st.sampled_from((0.0, 0.02, 0.3, 1.0)))
    weight = torch.randn(shape, generator=generator) * (torch.rand(shape, generator=generator) < density)
    if draw(st.booleans()):
        weight[: shape[0] // 2] = 0
    return weight.to(draw(st.sampled_from(TYPES))), groups, draw(st.booleans())


@given(weights(), st.tuples(st.integers(1, 9), st.integers(1, 9)), st.sampled_from((0, 1, 2)), st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_the_round_trip_is_exact(
    case: tuple[torch.Tensor, int, bool], tile: tuple[int, int], form: int, seed: int
) -> None:
    weight, groups, transposed = case
    order = TileOrder(tuple(weight.shape), tile, groups=groups, transposed=transposed)
    outer = order.channels[0]
    random = np.random.default_rng(seed)
    rows = np.concatenate([random.permutation(outer) + outer * group for group in range(groups)]) if seed % 2 else None
    packed = pack(weight, tile, form != 2, groups=groups, transposed=transposed, folded=form == 1, permutation=rows)
    restored = packed.unpack()
    assert restored.dtype == weight.dtype
    assert torch.equal(restored, weight)
    assert packed.live == packed.row_ptr[-1] <= packed.total
    assert packed.tiles.shape[-2:] == tile


def test_the_index_is_by_position_then_input_tile() -> None:
    weight = torch.zeros(16, 20, 3, 3)
    weight[3, 9, 1, 1], weight[15, 16, 1, 1], weight[8, 0, 0, 1] = 1, 2, 3
    packed = pack(weight, (8, 8))
    assert packed.order.blocks == (2, 27)
    assert packed.row_ptr.tolist() == [0, 1, 3]
    assert packed.col_idx.tolist() == [13, 3, 14]
    assert packed.tiles.shape == (3, 8, 8)
    assert [packed.tiles[0, 3, 1], packed.tiles[1, 0, 0], packed.tiles[2, 7, 0]] == [1, 3, 2]


def test_shared_positions_lie_in_one_tile() -> None:
    weight = torch.zeros(8, 16, 3)
    weight[0, 8, 2] = 5
    packed = pack(weight, (8, 8), False)
    assert packed.tiles.shape == (1, 3, 8, 8)
    assert packed.col_idx.tolist() == [1]
    assert packed.tiles[0, 2, 0, 0] == 5


def test_groups_have_block_rows_of_their_own() -> None:
    weight = torch.zeros(12, 8, 1, 1)
    weight[4, 0] = weight[11, 7] = 1
    packed = pack(weight, (8, 8), groups=2)
    assert packed.order.blocks == (2, 1)
    assert packed.row_ptr.tolist() == [0, 1, 2]
    assert pack(weight, (8, 8)).total == 2


def test_a_permutation_gathers_rows() -> None:
    weight = torch.zeros(16, 8)
    weight[::2] = 1
    rows = np.argsort(np.arange(16) % 2, kind="stable")
    assert pack(weight, (8, 8)).live == 2
    packed = pack(weight, (8, 8), permutation=rows)
    assert packed.live == 1
    assert packed.permuted
    assert torch.equal(packed.unpack(), weight)


def test_a_view_and_a_parameter_are_packed() -> None:
    weight = torch.nn.Parameter(torch.randn(8, 3, 3, 16).permute(3, 0, 1, 2))
    assert torch.equal(pack(weight, (8, 8)).unpack(), weight)


@pytest.mark.parametrize(("live", "saving"), [(0, 0.999), (4, 0.746), (16, -0.016)])
def test_saving_counts_the_index(live: int, saving: float) -> None:
    weight = torch.zeros(32, 32)
    for tile in range(live):
        weight[tile // 4 * 8, tile % 4 * 8] = 1
    assert pack(weight, (8, 8)).saving == pytest.approx(saving, abs=0.006)


def test_negative_zeros_are_zeros() -> None:
    packed = pack(torch.full((8, 8), -0.0), (8, 8))
    assert packed.live == 0
    assert torch.equal(packed.unpack(), torch.zeros(8, 8))


def test_refuses_what_does_not_fit() -> None:
    weight = torch.zeros(8, 8)
    with pytest.raises(ValueError, match=r"^a weight of shape \(8,\) has no 1 groups of channels$"):
        pack(weight[0], (8, 8))
    with pytest.raises(ValueError, match=r"^a tile of 0 x 8 holds nothing$"):
        pack(weight, (0, 8))
    with pytest.raises(ValueError, match=r"^tiles that reach over kernel positions cannot be shared by them$"):
        pack(weight, (8, 8), False, folded=True)
    with pytest.raises(ValueError, match=r"^the rows are no permutation of 8 output channels$"):
        pack(weight, (8, 8), permutation=[0] * 8)
    with pytest.raises(ValueError, match=r"^the rows leave their group, one of 2$"):
        pack(weight, (8, 8), groups=2, permutation=list(range(8))[::-1])
