"""Measure a processor: what kernels of many shapes and densities take on one thread."""

from __future__ import annotations

import datetime
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from smartc.frontend.capture import trace
from smartc.lowering.time_onnx import OperatorRun, convolution_run, linear_run, vector_run
from smartc.measuring.cost_table_file import SCHEMA
from smartc.measuring.processor import has_tvm, installed_versions, processor_name
from smartc.measuring.timing import Timing
from smartc.targets.cost_table import TILE, CostPoint, CostTable, PointKind

# A time is taken of so many seconds of one kernel in a row, in at most so many runs: clocks are no finer.
LEAST_SECONDS, MOST_RUNS = 5e-5, 16
# So many additions of single numbers, one after another, tell what a node of a network takes at least; no less than
# so many seconds.
CHAIN, LEAST_NODE = 65, 1e-7
# Weights of so many bytes are out of the nearer caches when a network comes to them again; everything is out of all
# of them after so many others were read.
COLD_BYTES, SWEPT_BYTES = 2**16, 2**26

# Told how many of how many steps are done.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Sizes:
    """What is measured; pixels are squares.

    Attributes:
        rows: Of linear layers.
        features: Their input and output features.
        pixels: Of convolutions; linear layers of as many rows stand for those of one tap.
        kernels: Taps of dense convolutions.
        channels: Input and output channels of dense layers.
        depthwise_kernels: Taps of depthwise convolutions.
        depthwise_channels: Their channels.
        elements: Of elementwise operations.
        step_pixels: Of the 3x3 convolutions whose output channels tell how many are computed at once.
        step_channels: Their input channels, and the output channels of each.
        packed_pixels: Of convolutions by block-sparse code.
        packed_kernels: Their taps.
        packed_channels: Channels, and the shares of live tiles to measure with them.
        rounds: How often each kernel is measured, in turns with the others.
    """

    rows: tuple[int, ...] = (1, 16)
    features: tuple[int, ...] = (64, 512, 4096)
    pixels: tuple[int, ...] = (4, 16, 49, 196, 784, 3136)
    kernels: tuple[int, ...] = (1, 9, 25)
    channels: tuple[int, ...] = (16, 64, 256)
    depthwise_kernels: tuple[int, ...] = (9, 25)
    depthwise_channels: tuple[int, ...] = (32, 128, 512)
    elements: tuple[int, ...] = (1, 1000, 10_000, 100_000, 1_000_000)
    step_pixels: int = 196
    step_channels: tuple[int, tuple[int, ...]] = (64, (24, 32, 40, 48, 56, 64))
    packed_pixels: tuple[int, ...] = (16, 49, 196, 784, 3136)
    packed_kernels: tuple[int, ...] = (1, 9)
    packed_channels: tuple[tuple[int, tuple[float, ...]], ...] = ((128, (0.0, 0.25, 1.0)), (512, (0.0, 1.0)))
    rounds: int = 11


@dataclass(frozen=True)
class _Kernel:
    """One kernel of a size."""

    kind: PointKind
    kernel: int
    pixels: int
    cin: int
    cout: int
    live: int = -1
    linear: bool = False

    def point(self, timing: Timing) -> CostPoint:
        """Return the kernel with its time."""
        us, spread = timing.ms * 1e3, timing.spread * 1e3
        return CostPoint(self.kind, self.kernel, self.pixels, self.cin, self.cout, self.live, us, spread)


def calibrate(watch: Progress | None = None, sizes: Sizes | None = None) -> CostTable:
    """Return the cost table of this machine; with TVM that of its block-sparse code too.

    The global random numbers stay as they were.
    """
    with torch.random.fork_rng(devices=[]):
        return _measured(watch, sizes or Sizes())


def _measured(watch: Progress | None, sizes: Sizes) -> CostTable:
    """Return the cost table of some sizes."""
    begun = time.monotonic()
    packed_kernels = sizes.packed_kernels if has_tvm() else ()
    steps = _Steps(watch, 1 + 2 * len(packed_kernels) + sizes.rounds)
    dense = _Dense({kernel: _opened(kernel) for kernel in dense_kernels(sizes)})
    steps.done()
    networks = []
    for taps in packed_kernels:
        networks.append(_Packed.of(tuple(packed_of(sizes, taps))))
        steps.done(2)
    samples: dict[_Kernel, list[float]] = {}
    for number in range(sizes.rounds):
        for kernel, seconds in itertools.chain(dense.times(), *(network.times() for network in networks)):
            if number:
                samples.setdefault(kernel, []).append(seconds)
        steps.done()
    return CostTable(
        schema=SCHEMA,
        processor=processor_name(),
        versions=installed_versions(),
        date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - begun, 1),
        points=tuple(kernel.point(Timing.of(times)) for kernel, times in samples.items()),
    )


class _Steps:
    """Counts steps for whoever watches."""

    def __init__(self, watch: Progress | None, total: int) -> None:
        self.watch, self.total, self.count = watch, total, 0
        self.done(0)

    def done(self, steps: int = 1) -> None:
        """Count some steps."""
        self.count += steps
        if self.watch is not None:
            self.watch(self.count, self.total)


def dense_kernels(sizes: Sizes) -> Iterator[_Kernel]:
    """Yield what is measured in ONNX Runtime."""
    for rows, cin, cout in itertools.product(sizes.rows, sizes.features, sizes.features):
        yield _Kernel("linear", 1, rows, cin, cout, linear=True)
    for taps in sizes.kernels:
        for pixels in _squares(sizes, sizes.pixels, taps):
            for cin, cout in itertools.product(sizes.channels, sizes.channels):
                yield _Kernel("matrix", taps, pixels, cin, cout)
    for taps, pixels, channels in itertools.product(sizes.depthwise_kernels, sizes.pixels, sizes.depthwise_channels):
        yield _Kernel("depthwise", taps, pixels, channels, channels)
    for elements in sizes.elements:
        yield _Kernel("vector", 1, elements, 1, 1)
    for channels in sizes.step_channels[1]:
        yield _Kernel("step", 9, sizes.step_pixels, sizes.step_channels[0], channels)


def packed_of(sizes: Sizes, taps: int) -> Iterator[_Kernel]:
    """Yield what is measured of block-sparse code with a kernel."""
    rows = [(count, True) for count in sizes.rows if taps == 1]
    squares = [(count, False) for count in _squares(sizes, sizes.packed_pixels, taps)]
    for (pixels, linear), (channels, densities) in itertools.product(rows + squares, sizes.packed_channels):
        tiles = taps * (channels // TILE) ** 2
        for density in densities:
            yield _Kernel("packed", taps, pixels, channels, channels, round(density * tiles), linear)


def _squares(sizes: Sizes, pixels: tuple[int, ...], taps: int) -> list[int]:
    """Return the pixels to measure convolutions with; of one tap those that are more than rows of linear layers."""
    return [count for count in pixels if taps > 1 or count > max(sizes.rows)]


def _opened(kernel: _Kernel) -> OperatorRun:
    """Return a run of a dense kernel."""
    if kernel.kind == "vector":
        return vector_run(kernel.pixels)
    if kernel.kind == "depthwise":
        return convolution_run(kernel.kernel, kernel.pixels, kernel.cin, kernel.cout, groups=kernel.cout)
    if kernel.kind == "linear":
        return linear_run(kernel.pixels, kernel.cin, kernel.cout)
    return convolution_run(kernel.kernel, kernel.pixels, kernel.cin, kernel.cout)


class _Dense:
    """Kernels of ONNX Runtime."""

    def __init__(self, runs: dict[_Kernel, OperatorRun]) -> None:
        self.runs, self.one, self.chain = runs, vector_run(1), vector_run(1, CHAIN)
        self.swept = np.ones(SWEPT_BYTES // 8)

    def times(self) -> Iterator[tuple[_Kernel, float]]:
        """Yield the seconds that each kernel takes in a network: without the call, but with its place in the graph."""
        warm, chain = (min(_seconds(empty.run) for _ in range(MOST_RUNS)) for empty in (self.one, self.chain))
        # The code of a call is in no cache then either, but in a network it is.
        cold = float(np.median([self._cold_seconds(self.one) for _ in range(MOST_RUNS)]))
        node = max((chain - warm) / (CHAIN - 1), LEAST_NODE)
        for kernel, operator in self.runs.items():
            large = operator.weight_bytes >= COLD_BYTES
            spent = self._cold_seconds(operator) - cold if large else _seconds(operator.run) - warm
            yield kernel, max((spent + node) * operator.share, node)

    def _cold_seconds(self, operator: OperatorRun) -> float:
        """Return the processor time of one run whose weights are in no cache, but whose inputs are."""
        self.swept.sum()
        operator.touch()
        begun = time.thread_time()
        operator.run()
        return time.thread_time() - begun


def _seconds(run: Callable[[], None]) -> float:
    """Return the processor time of one run, the mean of several of a short one."""
    run()  # What ran before has filled the caches with data of its own.
    begun, runs, spent = time.thread_time(), 0, 0.0
    while runs < MOST_RUNS and spent < LEAST_SECONDS:
        run()
        runs += 1
        spent = time.thread_time() - begun
    return spent / runs


class _Several(nn.Module):
    """Layers side by side, each with an input of its own."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return every layer's output."""
        return tuple(layer(x) for layer, x in zip(self.layers, inputs, strict=True))


@dataclass(frozen=True, eq=False)
class _Packed:
    """Kernels that TVM compiled together, and the layer that each is."""

    kernels: tuple[_Kernel, ...]
    layers: Callable[[], dict[str, float]]

    @classmethod
    def of(cls, kernels: tuple[_Kernel, ...]) -> _Packed:
        """Compile some kernels."""
        from smartc.lowering.time_tvm import TvmTimer
        from smartc.lowering.to_tvm import to_tvm

        layers, inputs = zip(*(_layer(kernel) for kernel in kernels), strict=True)
        model = trace(_Several(list(layers)), tuple(inputs))
        return cls(kernels, TvmTimer(to_tvm(model), inputs).layers)

    def times(self) -> Iterator[tuple[_Kernel, float]]:
        """Yield the seconds that each kernel takes."""
        spent = self.layers()
        for place, kernel in enumerate(self.kernels):
            yield kernel, spent[f"layers.{place}"]


def _layer(kernel: _Kernel) -> tuple[nn.Module, Tensor]:
    """Return a layer of which some tiles are not zero, and its input."""
    side = int(kernel.kernel**0.5)
    if kernel.linear:
        layer: nn.Linear | nn.Conv2d = nn.Linear(kernel.cin, kernel.cout)
        inputs = torch.randn(kernel.pixels, kernel.cin)
    else:
        layer = nn.Conv2d(kernel.cin, kernel.cout, side, padding=side // 2)
        edge = int(kernel.pixels**0.5)
        inputs = torch.randn(1, kernel.cin, edge, edge)
    tiles = np.zeros((kernel.cout // TILE, kernel.cin // TILE, kernel.kernel), np.float32)
    tiles.ravel()[np.random.default_rng(0).permutation(tiles.size)[: kernel.live]] = 1
    mask = tiles.repeat(TILE, 0).repeat(TILE, 1).reshape(layer.weight.shape)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape) * torch.from_numpy(mask))
    return layer, inputs
