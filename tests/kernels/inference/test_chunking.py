"""Chunks hold every pixel of a map once, and small maps join their rows where that saves products."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

pytest.importorskip("tvm")

from smartc.kernels.inference.chunking import chunks_of, products, singles
from smartc.kernels.inference.layout import Grid
from smartc.kernels.inference.row_spacing import Spacing, choose_spacings
from smartc.kernels.machine import Machine, machine_for

WIDE, NARROW = machine_for("skylake-avx512"), machine_for("haswell")


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2), st.booleans(), st.booleans())
def test_chunks_hold_every_place_once(height: int, width: int, gap: int, aligned: bool, wide: bool) -> None:
    machine = WIDE if wide else NARROW
    grid = Grid(height, width, gap, machine.lanes)
    places: list[int] = []
    for part in chunks_of(grid, machine, aligned):
        assert 1 <= part.vectors <= machine.vectors
        for number in range(part.count):
            first = part.first + number * part.step
            assert not aligned or first % machine.lanes == 0
            places += range(first, first + part.vectors * machine.lanes)
            places += [] if part.single is None else [part.single + number * part.single_step]
    end = grid.places if singles(grid, machine) else grid.vectors * machine.lanes
    assert sorted(places) == list(range(end))


def test_single_pixels_save_products() -> None:
    assert products(Grid(7, 7, 0, 16), WIDE) == 3 * 8 + 1
    assert products(Grid(7, 7, 1, 16), WIDE) == 4 * 8
    assert products(Grid(14, 14, 0, 16), WIDE) == 12 * 8 + 4
    assert products(Grid(7, 7, 0, 8), NARROW) == 7 * 4


def spacings(size: int, machine: Machine, groups: int = 1) -> list[Spacing]:
    """Return how the maps of a chain of layers lie."""
    middle = nn.Conv2d(8, 8, 3, padding=1, groups=groups)
    chain = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), middle, nn.Conv2d(8, 8, 1))
    program = torch.export.export(chain, (torch.randn(1, 8, size, size),))
    return list(choose_spacings(program.graph, machine).values())


def test_rows_join_where_lanes_can_be_left_out_and_no_kernel_needs_zeros() -> None:
    assert spacings(14, WIDE) == [Spacing(slack=16)] * 4
    assert spacings(56, WIDE, groups=2) == [Spacing(slack=64)] * 4
    assert spacings(56, WIDE, groups=8) == [Spacing(1)] * 4


def test_elsewhere_small_maps_have_planes_and_large_ones_gaps() -> None:
    joined = Spacing(0, joined=True)
    assert spacings(14, NARROW) == [joined, Spacing(0, True, 1, (-1, 1)), joined, joined]
    assert spacings(56, NARROW) == [Spacing(1)] * 4
