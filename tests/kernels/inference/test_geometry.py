"""Every tap of every window reads, in the phases of a stride, what PyTorch's unfold reads."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from smartc.kernels.inference.copies import Phases
from smartc.kernels.inference.geometry import Geometry, pixel_mask
from smartc.kernels.inference.layout import Grid

PAIRS = st.tuples(st.integers(1, 4), st.integers(1, 4))


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    """Return a window that fits its map at least once."""
    kernel, stride, dilation = draw(PAIRS), draw(PAIRS), draw(PAIRS)
    padding = (draw(st.integers(0, 4)), draw(st.integers(0, 4)))
    reach = [step * (size - 1) + 1 for step, size in zip(dilation, kernel, strict=True)]
    least = [max(1, size - 2 * pad) for size, pad in zip(reach, padding, strict=True)]
    source = (least[0] + draw(st.integers(0, 12)), least[1] + draw(st.integers(0, 12)))
    target = tuple((source[i] + 2 * padding[i] - reach[i]) // stride[i] + 1 for i in (0, 1))
    return Geometry(kernel, stride, padding, dilation, source, (target[0], target[1]))


def split(image: np.ndarray, phases: Phases) -> np.ndarray:
    """Return an image split by hand."""
    buffer = np.full((len(phases.phases), phases.length), phases.fill, np.float32)
    for run, (down, right) in zip(buffer, phases.phases, strict=True):
        part = image[down :: phases.stride[0]][: phases.size[0]]
        for x in range(phases.size[1]):
            column = x * phases.stride[1] + right
            if 0 <= column < image.shape[1]:
                run[phases.lead + np.arange(len(part)) * phases.pitch + x] = part[:, column]
    return buffer.ravel()


@given(geometries(), st.integers(-4, 2), st.sampled_from([4, 16]))
def test_taps_read_what_unfold_reads(geometry: Geometry, more: int, lanes: int) -> None:
    grid = Grid(*geometry.target, max(geometry.gap + more, 0), lanes)
    phases = geometry.phases(grid)
    image = np.random.default_rng(0).standard_normal(geometry.source).astype(np.float32)
    buffer = split(image, phases)
    pixels = phases.lead + np.arange(grid.height)[:, None] * grid.pitch + np.arange(grid.width)
    read = np.stack([buffer[pixels + tap] for tap in geometry.taps_in_phases(phases)])
    wanted = torch.nn.functional.unfold(
        torch.from_numpy(image)[None, None],
        geometry.kernel,
        dilation=geometry.dilation,
        padding=geometry.padding,
        stride=geometry.stride,
    )
    np.testing.assert_array_equal(read.reshape(len(read), -1), wanted[0].numpy())


@given(geometries(), st.booleans(), st.sampled_from([4, 16]))
def test_whole_vectors_stay_inside_a_channel(geometry: Geometry, joined: bool, lanes: int) -> None:
    grid = Grid(*geometry.target, 0 if joined else geometry.gap, lanes)
    phases = geometry.phases(grid)
    taps = geometry.taps_in_phases(phases) + phases.lead
    assert taps.min() >= 0
    assert taps.max() + grid.vectors * lanes <= len(phases.phases) * phases.length


def test_the_mask_marks_pixels() -> None:
    assert pixel_mask(Grid(2, 3, 1, 4)).tolist() == [1, 1, 1, 0, 1, 1, 1, 0]


@given(geometries(), st.sampled_from([4, 16]))
def test_planes_hold_what_windows_in_place_read(geometry: Geometry, lanes: int) -> None:
    if not geometry.in_place:
        return
    grid = Grid(*geometry.target, 0, lanes, *geometry.planes)
    layout = grid.layout(1, 1)
    image = np.random.default_rng(0).standard_normal(geometry.source).astype(np.float32)
    buffer = np.zeros(layout.size, np.float32)
    pixels = layout.offset + np.arange(grid.height)[:, None] * grid.pitch + np.arange(grid.width)
    for shift, distance in ((0, 0), *layout.planes):
        padded = np.pad(image, ((0, 0), (abs(shift), abs(shift))))
        buffer[pixels + distance] = padded[:, abs(shift) + shift :][:, : grid.width]
    read = np.stack([buffer[pixels + tap] for tap in geometry.taps_in_grid(layout)])
    wanted = torch.nn.functional.unfold(
        torch.from_numpy(image)[None, None], geometry.kernel, dilation=geometry.dilation, padding=geometry.padding
    )
    np.testing.assert_array_equal(read.reshape(len(read), -1), wanted[0].numpy())
