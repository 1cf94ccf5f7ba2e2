"""Pack a weight into columns of a few output channels, leaving out the columns that are all zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float32]]
Integers = np.ndarray[Any, np.dtype[np.int32]]
# What a run costs besides its columns, in columns.
RUN_COST = 0.2


@dataclass(frozen=True)
class Columns:
    """The non-zero columns of a weight, by groups of ``rows`` output channels.

    Attributes:
        values: Shape (columns, rows), group after group.
        channel: Input channel of each column, shape (columns,).
        tap: Place of each column in the flattened kernel, shape (columns,).
        row_ptr: First column of each group, and the end, shape (groups + 1,).
        run: Channels and taps of a run: columns come in runs, each of which begins at a multiple of both.
    """

    values: Floats
    channel: Integers
    tap: Integers
    row_ptr: Integers
    run: tuple[int, int] = (1, 1)

    @property
    def groups(self) -> int:
        """Return the number of groups of output channels."""
        return len(self.row_ptr) - 1

    @property
    def length(self) -> int:
        """Return the columns of a run."""
        return self.run[0] * self.run[1]

    def steps(self, channel_stride: int, taps: Integers) -> tuple[int, ...]:
        """Return the distance in the input of each column of a run from its first, given each tap's."""
        return tuple(
            channel * channel_stride + int(taps[tap] - taps[0])
            for channel in range(self.run[0])
            for tap in range(self.run[1])
        )

    def offsets(self, channel_stride: int, taps: Integers) -> Integers:
        """Return each column's distance in the input from the output pixel, given each tap's."""
        return (self.channel.astype(np.int64) * channel_stride + taps[self.tap]).astype(np.int32)


def pack(
    weight: Floats, rows: int, groups: int = 1, keep_zeros: bool = False, runs: Sequence[tuple[int, int]] = ((1, 1),)
) -> Columns:
    """Return the columns of a weight that are not all zero, by group, then input channel, then tap.

    Args:
        weight: Shape (out, in // groups, *kernel).
        rows: Output channels of a column; missing ones at the end are zeros.
        groups: Groups of the convolution; its input channels are numbered through all groups.
        keep_zeros: Keep every column that the convolution has, as a dense layer does.
        runs: Channels and taps of the runs in which columns may come; the cheapest is taken, and zeros fill it.
    """
    out, inner = weight.shape[:2]
    taps = int(np.prod(weight.shape[2:]))
    flat = weight.reshape(out, inner, taps)
    panels = [_panel(flat, first, rows, out // groups, keep_zeros) for first in range(0, out, rows)]
    fitting = [run for run in runs if inner % run[0] == 0 and taps % run[1] == 0]
    used = [panel.used for panel in panels]
    run = min(fitting, key=lambda run: sum(_in_runs(part, run).sum() for part in used) * (run[0] * run[1] + RUN_COST))
    parts = [panel.columns(run) for panel in panels]
    counts = [len(values) for values, _, _ in parts]
    return Columns(
        values=np.concatenate([values for values, _, _ in parts]).astype(np.float32),
        channel=np.concatenate([channel for _, channel, _ in parts]).astype(np.int32),
        tap=np.concatenate([tap for _, _, tap in parts]).astype(np.int32),
        row_ptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        run=run,
    )


@dataclass(frozen=True)
class _Panel:
    """The weights of one group of output channels.

    Attributes:
        weights: Shape (channels, taps, rows).
        used: Which columns there are, shape (channels, taps).
        begin: The first input channel.
    """

    weights: Floats
    used: np.ndarray[Any, np.dtype[np.bool_]]
    begin: int

    def columns(self, run: tuple[int, int]) -> tuple[Floats, Integers, Integers]:
        """Return values, input channels and taps of the columns of the runs in which there are any."""
        blocks = np.argwhere(_in_runs(self.used, run))[:, :, None, None]
        channel = blocks[:, 0] * run[0] + np.arange(run[0])[:, None] + np.zeros(run[1], int)
        tap = blocks[:, 1] * run[1] + np.zeros(run[0], int)[:, None] + np.arange(run[1])
        channel, tap = channel.ravel(), tap.ravel()
        return self.weights[channel, tap], channel + self.begin, tap


def _in_runs(used: np.ndarray[Any, np.dtype[np.bool_]], run: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return a flag for each run, true where it has a column."""
    channels, taps = used.shape
    blocks: np.ndarray[Any, np.dtype[np.bool_]] = used.reshape(channels // run[0], run[0], taps // run[1], run[1])
    return np.asarray(blocks.any(axis=(1, 3)))


def _panel(flat: Floats, first: int, rows: int, group_size: int, keep_zeros: bool) -> _Panel:
    """Return the weights of one group of output channels."""
    inner, taps = flat.shape[1:]
    last = min(first + rows, len(flat))
    begin = first // group_size * inner
    end = ((last - 1) // group_size + 1) * inner
    panel = np.zeros((end - begin, taps, rows), np.float32)
    used = np.zeros((end - begin, taps), bool)
    for row in range(first, last):
        start = row // group_size * inner - begin
        panel[start : start + inner, :, row - first] = flat[row]
        used[start : start + inner] |= keep_zeros
    return _Panel(panel, (panel != 0).any(axis=2) | used, begin)
