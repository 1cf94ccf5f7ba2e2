"""Depthwise convolutions with a stride in TVM: which taps and lanes are read, and that PyTorch computes the same."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("tvm")

import smartc
from smartc.kernels.inference.geometry import Geometry
from smartc.kernels.inference.layout import Grid, plain
from smartc.kernels.inference.strided_depthwise import StridedDepthwise, reads_in_place
from smartc.lowering.to_tvm import to_tvm
from tests.support.oracle import relative_error

pytestmark = pytest.mark.slow

# float32 carries seven digits; sums of up to a hundred products lose one or two.
TOLERANCE = 1e-5


def random_call(rng: random.Random) -> StridedDepthwise:
    """Return a call of the kernel on a map of any size that has an output."""
    pairs = [tuple(rng.choice(choice) for _ in range(2)) for choice in ((1, 2, 3, 5), (1, 2), (1, 1, 2))]
    kernel, stride, dilation = pairs
    span = [step * (size - 1) + 1 for size, step in zip(kernel, dilation, strict=True)]
    padding = tuple(rng.randrange(0, size) for size in span)
    source = tuple(rng.randrange(max(size - 2 * zeros, 1), 70) for size, zeros in zip(span, padding, strict=True))
    target = tuple((source[i] + 2 * padding[i] - span[i]) // stride[i] + 1 for i in (0, 1))
    geometry = Geometry(kernel, stride, padding, dilation, source, target)
    grid = Grid(*target, rng.choice([0, 1]), rng.choice([4, 8, 16]))
    return StridedDepthwise("f", geometry, plain((1, 2, *source)), grid.layout(1, 2), grid, None)


@pytest.mark.parametrize("seed", range(40))
def test_every_pixel_is_computed_from_what_lies_in_the_map(seed: int) -> None:
    call = random_call(random.Random(seed))
    geometry = call.geometry
    steps, ends = zip(geometry.stride, geometry.dilation, geometry.padding, strict=True), geometry.source
    (down, far, before), (right, wide, left) = steps

    def inside(y: int) -> list[int]:
        return [tap for tap in range(geometry.kernel[0]) if 0 <= y * down + tap * far - before < ends[0]]

    assert {y: inside(y) for y in range(geometry.target[0])} == {
        rows.first + y: list(rows.taps) for rows in call.rows for y in range(rows.count)
    }
    starts = [(run, run.first + number * run.lanes) for run in call.vectors for number in range(run.count)]
    pixels = [x for run, start in starts for x in range(start, min(start + run.lanes, geometry.target[1]))]
    assert pixels == list(range(geometry.target[1]))
    for run, start in starts:
        if run.safe:
            assert start + run.lanes <= geometry.target[1]
            assert all(call.inside(start, run.lanes, load) is None for load in call.loads)
    shifts = {tap: load + part for load, columns in call.loads.items() for tap, part in columns}
    assert shifts == {tap: tap * wide - left for tap in range(geometry.kernel[1])}
    assert all(part < right for columns in call.loads.values() for _, part in columns)


def test_what_the_kernel_takes() -> None:
    source, grid = plain((1, 4, 9, 9)), Grid(5, 5, 0, 16)
    taken = Geometry((3, 3), (2, 2), (1, 1), (1, 1), (9, 9), (5, 5))
    assert reads_in_place(taken, source, grid)
    assert reads_in_place(Geometry((3, 3), (3, 1), (1, 1), (1, 1), (9, 9), (3, 9)), source, Grid(3, 9, 0, 16))
    assert not reads_in_place(Geometry((3, 3), (1, 1), (1, 1), (1, 1), (9, 9), (9, 9)), source, Grid(9, 9, 1, 16))
    assert not reads_in_place(Geometry((3, 3), (3, 3), (1, 1), (1, 1), (9, 9), (3, 3)), source, Grid(3, 3, 0, 16))
    assert not reads_in_place(taken, source, Grid(5, 5, 0, 16, 1, (-1, 1)))
    assert not reads_in_place(taken, source.permuted((0, 1, 3, 2)), grid)


def random_network(rng: random.Random) -> tuple[nn.Module, Tensor]:
    """Return a depthwise convolution between two that mix channels, and an input."""
    channels, more = rng.choice([3, 8]), rng.choice([1, 2])
    kernel, stride = rng.choice([2, 3, 5]), rng.choice([(2, 2), (2, 2), (1, 2), (3, 1), (3, 3)])
    depthwise = nn.Conv2d(channels, channels * more, kernel, stride, kernel // 2, rng.choice([1, 1, 2]), channels)
    last = nn.Conv2d(channels * more, 4, *rng.choice([(1,), (3, 1, 1)]))
    layers = [nn.Conv2d(channels, channels, 1), nn.ReLU6(), depthwise, nn.ReLU6(), last]
    return nn.Sequential(*layers), torch.randn(2, channels, rng.randrange(10, 45), rng.randrange(10, 45))


class Several(nn.Module):
    """Networks side by side, each on an input of its own."""

    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return every network's output."""
        return tuple(network(x) for network, x in zip(self.networks, inputs, strict=True))


@pytest.mark.parametrize("mcpu", [None, "avx2", "x86-64"])
def test_computes_what_pytorch_does(mcpu: str | None) -> None:
    rng = random.Random(str(mcpu))
    torch.manual_seed(0)
    networks, inputs = zip(*(random_network(rng) for _ in range(3)), strict=True)
    module = Several(list(networks)).eval()
    compiled = to_tvm(smartc.trace(module, inputs), batch=2, mcpu=mcpu)
    with torch.no_grad():
        wanted = module(*inputs)
    found = [torch.from_numpy(output) for output in compiled.run(inputs)]
    assert max(relative_error(w, o) for w, o in zip(wanted, found, strict=True)) < TOLERANCE


def test_a_stride_of_two_needs_no_copy() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU6(), nn.Conv2d(8, 8, 3, 2, 1, groups=8), nn.Conv2d(8, 4, 1))
    compiled = to_tvm(smartc.trace(network.eval(), torch.randn(1, 3, 20, 20)))
    assert {kernel for kernel, layer in compiled.layers.items() if layer == "2"} == {"_2"}
