"""Pack a weight into columns of a few output channels, leaving out the columns that are all zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float32]]
Integers = np.ndarray[Any, np.dtype[np.int32]]


@dataclass(frozen=True)
class Columns:
    """The non-zero columns of a weight, by groups of ``rows`` output channels.

    Attributes:
        values: Shape (columns, rows), group after group.
        channel: Input channel of each column, shape (columns,).
        tap: Place of each column in the flattened kernel, shape (columns,).
        row_ptr: First column of each group, and the end, shape (groups + 1,).
    """

    values: Floats
    channel: Integers
    tap: Integers
    row_ptr: Integers

    @property
    def groups(self) -> int:
        """Return the number of groups of output channels."""
        return len(self.row_ptr) - 1

    def offsets(self, channel_stride: int, taps: Integers) -> Integers:
        """Return each column's distance in the input from the output pixel, given each tap's."""
        return (self.channel.astype(np.int64) * channel_stride + taps[self.tap]).astype(np.int32)


def pack(weight: Floats, rows: int, groups: int = 1, keep_zeros: bool = False) -> Columns:
    """Return the columns of a weight that are not all zero, by group, then input channel, then tap.

    Args:
        weight: Shape (out, in // groups, *kernel).
        rows: Output channels of a column; missing ones at the end are zeros.
        groups: Groups of the convolution; its input channels are numbered through all groups.
        keep_zeros: Keep every column that the convolution has, as a dense layer does.
    """
    out, inner = weight.shape[:2]
    taps = int(np.prod(weight.shape[2:]))
    flat = weight.reshape(out, inner, taps)
    parts = [_group_columns(flat, first, rows, out // groups, keep_zeros) for first in range(0, out, rows)]
    counts = [len(values) for values, _, _ in parts]
    return Columns(
        values=np.concatenate([values for values, _, _ in parts]).astype(np.float32),
        channel=np.concatenate([channel for _, channel, _ in parts]).astype(np.int32),
        tap=np.concatenate([tap for _, _, tap in parts]).astype(np.int32),
        row_ptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
    )


def _group_columns(
    flat: Floats, first: int, rows: int, group_size: int, keep_zeros: bool
) -> tuple[Floats, Integers, Integers]:
    """Return values, input channels and taps of the columns of one group of output channels."""
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
    channel, tap = np.nonzero((panel != 0).any(axis=2) | used)
    return panel[channel, tap], (channel + begin).astype(np.int32), tap.astype(np.int32)
