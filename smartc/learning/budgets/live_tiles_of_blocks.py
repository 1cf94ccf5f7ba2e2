"""Count the live tiles of a target in a weight of which some blocks and some channels stay."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from smartc.analysis.channels.labels import IntArray
from smartc.analysis.live_tiles import any_of_runs
from smartc.masks.layouts import BoolArray, Tiles
from smartc.targets.target import Target

Flags = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, eq=False)
class BlocksInTiles:
    """One masked weight, whose kept blocks fill tiles of a target.

    Attributes:
        layout: How its blocks lie in it.
        outputs: The unit of each output channel, those of all groups in order; negative where it always stays.
        inputs: Likewise of each input channel of a group.
        target: The device.
    """

    layout: Tiles
    outputs: IntArray
    inputs: IntArray
    target: Target

    def alive(self, kept: BoolArray, *, outputs: bool) -> BoolArray:
        """Return whether a kept block has weights of each output channel, or of each input channel of a group."""
        layout, blocks = self.layout, kept.reshape(self.layout.grid)
        if not outputs:
            return np.asarray(np.logical_or.reduce(blocks, axis=(0, 1, 3)), dtype=bool)[self._column_of]
        rows: Flags = np.asarray(np.logical_or.reduce(blocks, axis=(2, 3)), dtype=bool)[:, self._row_of]
        return rows.reshape(layout.groups * layout.out)

    def live(self, kept: BoolArray, stays: BoolArray) -> int:
        """Return the live tiles of what is left.

        Args:
            kept: Which blocks stay.
            stays: Which channels stay, by unit, with one more that is true for those without a unit.
        """
        layout = self.layout
        rows = stays[self.outputs].reshape(layout.groups, layout.out)
        columns = self._column_of[stays[self.inputs]]
        blocks = self._at_taps(kept.reshape(layout.grid))
        parts = zip(blocks, rows, strict=True)
        return sum(self._in_group(part, self._row_of[left], columns) for part, left in parts)

    def _in_group(self, blocks: Flags, rows: IntArray, columns: IntArray) -> int:
        """Return the live tiles of a group's blocks, given the block of each output and input channel that is left."""
        if not len(rows) or not len(columns):
            return 0
        array, taps = self.target.array, self.layout.taps
        wide = any_of_runs(blocks[rows], 0, array.cols)[:, columns]
        if array.reduction == "channel":
            live = int(np.count_nonzero(any_of_runs(wide, 1, array.rows)))
            return live * (taps // wide.shape[2])
        folded = np.broadcast_to(np.moveaxis(wide, 2, 1), (len(wide), taps, len(columns))).reshape(len(wide), -1)
        return int(np.count_nonzero(any_of_runs(folded, 1, array.rows)))

    def _at_taps(self, blocks: Flags) -> Flags:
        """Return the blocks at each kernel position, or at one that stands for all where these share their zeros."""
        if self.target.sparsity.per_kernel_position:
            return blocks
        return np.asarray(np.logical_or.reduce(blocks, axis=3, keepdims=True), dtype=bool)

    @cached_property
    def _row_of(self) -> IntArray:
        """Return the row of blocks of each output channel of a group."""
        return np.arange(self.layout.out) // self.layout.rows

    @cached_property
    def _column_of(self) -> IntArray:
        """Return the column of blocks of each input channel of a group."""
        return np.arange(self.layout.into) // self.layout.columns
