"""Every tap of every window reads, in the phases of a stride, what PyTorch's unfold reads."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from smartc.lowering.tvm_kernels.copies import Phases
from smartc.lowering.tvm_kernels.geometry import Geometry, pixel_mask
from smartc.lowering.tvm_kernels.layout import Grid

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
        part = image[down :: phases.stride[0], right :: phases.stride[1]][: phases.size[0], : phases.size[1]]
        places = phases.lead + np.arange(part.shape[0])[:, None] * phases.pitch + np.arange(part.shape[1])
        run[places] = part
    return buffer.ravel()


@given(geometries(), st.integers(0, 2), st.sampled_from([4, 16]))
def test_taps_read_what_unfold_reads(geometry: Geometry, more: int, lanes: int) -> None:
    grid = Grid(*geometry.target, geometry.gap + more, lanes)
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


@given(geometries(), st.sampled_from([4, 16]))
def test_whole_vectors_stay_inside_a_channel(geometry: Geometry, lanes: int) -> None:
    grid = Grid(*geometry.target, geometry.gap, lanes)
    phases = geometry.phases(grid)
    taps = geometry.taps_in_phases(phases) + phases.lead
    assert taps.min() >= 0
    assert taps.max() + grid.vectors * lanes <= len(phases.phases) * phases.length


def test_the_mask_marks_pixels() -> None:
    assert pixel_mask(Grid(2, 3, 1, 4)).tolist() == [1, 1, 1, 0, 1, 1, 1, 0]
