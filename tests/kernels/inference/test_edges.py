"""Windows on rows without gaps: the bits that they take and the buffers that they stay inside of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

pytest.importorskip("tvm")

import smartc
from smartc.kernels.inference.chunking import chunks_of
from smartc.kernels.inference.edges import edge_bits, inside
from smartc.kernels.inference.geometry import Geometry
from smartc.kernels.inference.layout import Grid, Layout, plain
from smartc.kernels.machine import machine_for
from smartc.lowering.to_tvm import to_tvm
from tests.support.oracle import relative_error

pytestmark = pytest.mark.slow

WIDE = machine_for("skylake-avx512")
# float32 carries seven digits; sums of up to a few hundred products lose one or two.
TOLERANCE = 1e-5


@st.composite
def windows(draw: st.DrawFn) -> Geometry:
    """Return a window of odd size whose output has as many pixels as its input."""
    kernel, dilation = ((draw(st.integers(0, 2)) * 2 + 1, draw(st.integers(0, 2)) * 2 + 1) for _ in range(2))
    padding = (dilation[0] * (kernel[0] // 2), dilation[1] * (kernel[1] // 2))
    size = (draw(st.integers(1, 20)), draw(st.integers(1, 20)))
    return Geometry(kernel, (1, 1), padding, dilation, size, size)


def places(geometry: Geometry, aligned: bool) -> tuple[list[list[int]], list[list[int]]]:
    """Return the places of each entry's lanes, -1 beside a single pixel, and the places of each chunk."""
    entries, chunks = [], []
    for part in chunks_of(Grid(*geometry.target, 0, 16), WIDE, aligned):
        for number in range(part.count):
            first = part.first + number * part.step
            vectors = [list(range(first + 16 * v, first + 16 * v + 16)) for v in range(part.vectors)]
            single = [] if part.single is None else [[part.single + number * part.single_step] + [-1] * 15]
            entries += vectors + single
            chunks.append([place for entry in vectors + single for place in entry if place >= 0])
    return entries, chunks


@given(windows(), st.booleans())
def test_bits_are_those_of_the_pixels_that_unfold_reads(geometry: Geometry, aligned: bool) -> None:
    grid = Grid(*geometry.target, 0, 16)
    bits = edge_bits(geometry, grid, chunks_of(grid, WIDE, aligned))
    entries, _ = places(geometry, aligned)
    read = torch.nn.functional.unfold(
        torch.ones(1, 1, *geometry.source), geometry.kernel, geometry.dilation, geometry.padding
    )[0].numpy()
    found = bits.reshape(len(entries), -1)
    for entry, words in zip(entries, found, strict=True):
        for tap, word in enumerate(words):
            wanted = [0 <= place < grid.places and read[tap, place] > 0 for place in entry]
            assert [bool(word >> lane & 1) for lane in range(16)] == wanted


@given(windows(), st.booleans(), st.integers(0, 40))
def test_chunks_inside_a_buffer_are_those_that_read_nothing_else(geometry: Geometry, aligned: bool, slack: int) -> None:
    grid = Grid(*geometry.target, 0, 16, slack=slack)
    for layout in (plain((2, 3, *geometry.source)), grid.layout(2, 3)):
        _, chunks = places(geometry, aligned)
        taps = geometry.taps_in_grid(layout)
        for part in chunks_of(grid, WIDE, aligned):
            safe = inside(part, layout, taps.tolist(), 16)
            mine, chunks = chunks[: part.count], chunks[part.count :]
            assert [number in safe for number in range(part.count)] == [_stays(chunk, layout, taps) for chunk in mine]


def _stays(chunk: list[int], layout: Layout, taps: np.ndarray) -> bool:
    """Return whether a chunk of every channel reads only elements of the buffer."""
    last = layout.offset + layout.strides[0] + 2 * layout.strides[1]
    return layout.offset + min(chunk) + taps.min() >= 0 and last + max(chunk) + taps.max() < layout.size


@pytest.mark.parametrize(("size", "stride"), [((7, 7), 1), ((13, 17), 2), ((40, 31), 1)])
def test_chains_of_windows_are_right_whatever_lies_beyond_their_maps(size: tuple[int, int], stride: int) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(4, 9, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(9, 12, 5, stride, padding=4, dilation=2, groups=3),
        nn.ReLU(),
        nn.Conv2d(12, 5, (1, 3), padding=(0, 1)),
    ).eval()
    # Beyond each map lie other maps: their pixels would be seen in a sum.
    x = torch.randn(2, 4, *size) * 1e3
    (found,) = to_tvm(smartc.trace(module, x), batch=2).run((x,))
    with torch.no_grad():
        assert relative_error(module(x), torch.from_numpy(found)) < TOLERANCE
