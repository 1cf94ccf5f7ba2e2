"""Find for each channel group the counts that fill whole tiles of a target."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from smartc.analysis.channels.labels import IntArray
from smartc.analysis.find_layers import Layers
from smartc.targets.target import Target
from smartc.targets.workload import OpKind


@dataclass(frozen=True)
class TileStep:
    """The kept counts of a group are multiples of a step.

    Attributes:
        tile: The units that fill whole tiles of every layer that the group touches.
        step: The same; less where the group is no larger than that and cutting it still saves tiles.
    """

    tile: int
    step: int


@dataclass(frozen=True, eq=False)
class _Runs:
    """Channels that fall into tiles together: a side of a layer, or of each group of a grouped convolution.

    Attributes:
        groups: The channel group of each run, ascending.
        each: Channels that one unit adds to the run.
        length: All channels of the run.
        quantum: Channels of a tile.
    """

    groups: IntArray
    each: IntArray
    length: IntArray
    quantum: IntArray

    def of(self, group: int) -> _Runs:
        """Return the runs of one channel group."""
        part = slice(*np.searchsorted(self.groups, (group, group + 1)))
        return _Runs(*(values[part] for values in vars(self).values()))

    def longer_than_a_tile(self) -> _Runs:
        """Return the runs of more than one tile."""
        long = self.length > self.quantum
        return _Runs(*(values[long] for values in vars(self).values()))

    def step(self) -> int:
        """Return the fewest units whose channels fill whole tiles of every run."""
        return math.lcm(*(self.quantum // np.gcd(self.quantum, self.each)).tolist())


def tile_steps(layers: Layers, target: Target) -> list[TileStep]:
    """Return the step of each channel group.

    A group of more than one tile keeps whole tiles.  A smaller one, such as the channels of each group
    of a grouped convolution, keeps what fills tiles where many of its runs lie side by side and so make
    more than one; if nothing short of all does, it keeps any count.  So does a group that shares all of
    its runs, such as a part that a split cuts off: tiles are filled together.
    """
    runs = _runs(layers, target)
    return [_step(len(group), runs.of(index), target) for index, group in enumerate(layers.groups.groups)]


def _step(size: int, runs: _Runs, target: Target) -> TileStep:
    """Return the step of a group of a given size."""
    if len(runs.groups) and (runs.each * size < runs.length).all():
        return TileStep(1, 1)
    # What never meets the array still fills whole rows of memory.
    tile = runs.step() if len(runs.groups) else target.align.cout
    if size > tile:
        return TileStep(tile, tile)
    long = runs.longer_than_a_tile()
    if not len(long.groups):
        return TileStep(tile, size)
    return TileStep(tile, long.step() if size > long.step() else 1)


def _runs(layers: Layers, target: Target) -> _Runs:
    """Return the runs of all matrix products and depthwise convolutions."""
    touched, fixed = layers.touched, layers.fixed
    kind, scales = fixed["kind"][touched.rows], fixed["scales"][touched.rows]
    # A unit of a product of many matrices is a whole matrix, whose size does not depend on the count.
    matrix, depthwise = (kind == OpKind.MATRIX) & ~scales, kind == OpKind.DEPTHWISE
    parts = np.where(matrix, fixed["groups"][touched.rows], 1)
    sides: list[tuple[Any, ...]] = []
    for adds, size, quantum, on_array in (
        (touched.reads, layers.full_sizes[0], target.align.cin, matrix),
        (touched.writes, layers.full_sizes[1], target.align.cout, matrix | depthwise),
    ):
        runs = on_array & (adds > 0)
        length = size[touched.rows[runs]] // parts[runs]
        sides.append((touched.groups[runs], adds[runs] // parts[runs], length, np.full(len(length), quantum)))
    columns = [np.concatenate(column) for column in zip(*sides, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    return _Runs(*(column[order] for column in columns))
