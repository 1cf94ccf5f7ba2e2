"""Cost tables for tests: times that follow from a formula, or small ones that are really measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from smartc.measuring.calibrate import Sizes
from smartc.measuring.cost_table_file import SCHEMA
from smartc.measuring.processor import installed_versions, processor_name
from smartc.targets.cost_table import CostPoint, CostTable
from smartc.targets.measured import MeasuredTarget
from smartc.targets.target import load_target

TINY = Sizes(
    rows=(1,),
    features=(8, 16),
    pixels=(49,),
    kernels=(1, 9),
    channels=(8, 16),
    depthwise_kernels=(9,),
    depthwise_channels=(8, 16),
    elements=(1, 1000),
    step_pixels=49,
    step_channels=(16, (8, 16)),
    packed_pixels=(49,),
    packed_kernels=(1,),
    packed_channels=((16, (0.0, 1.0)),),
    rounds=3,
)


def table(time: Callable[[CostPoint], float]) -> CostTable:
    """Return a table of this machine in which each kernel takes so many microseconds."""
    points = tuple(replace(point, us=time(point)) for point in _points())
    return CostTable(SCHEMA, processor_name(), installed_versions(), "2026-01-02T03:04:05+00:00", 1.5, points)


def target(time: Callable[[CostPoint], float], *, blocks: bool = True) -> MeasuredTarget:
    """Return the target of a table."""
    return MeasuredTarget.of(load_target("cpu"), table(time), blocks=blocks)


def by_work(point: CostPoint) -> float:
    """Return 5 us and a time in proportion to the work; packed tiles cost as much as dense ones."""
    elements = point.pixels * (point.cin + point.cout)
    return 5 + point.macs / 5e4 + elements / 1e6


def _points() -> Iterator[CostPoint]:
    """Yield kernels of a few sizes."""
    for kernel in (1, 9):
        for pixels in (1, 49, 784):
            for cin in (8, 64, 256):
                for cout in (8, 64, 256):
                    yield CostPoint("matrix", kernel, pixels, cin, cout, -1, 1.0, 0.1)
                yield CostPoint("depthwise", kernel, pixels, cin, cin, -1, 1.0, 0.1)
            for tiles in (0, 64, 256):
                yield CostPoint("packed", kernel, pixels, 128, 128, kernel * tiles, 1.0, 0.1)
    for rows in (1, 16):
        for cin in (8, 64, 256):
            for cout in (8, 64, 256):
                yield CostPoint("linear", 1, rows, cin, cout, -1, 1.0, 0.1)
    for channels in (24, 32, 40, 48, 56, 64):
        yield CostPoint("step", 9, 196, 64, channels, -1, 1.0, 0.1)
    for elements in (1, 1000, 1_000_000):
        yield CostPoint("vector", 1, elements, 1, 1, -1, 1.0, 0.1)
