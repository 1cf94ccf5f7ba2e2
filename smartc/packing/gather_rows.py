"""Put rows of flags in an order in which runs of them have few columns with a flag."""

from __future__ import annotations

from typing import Any

import numpy as np

from smartc.analysis.channels.labels import IntArray

_Flags = np.ndarray[Any, np.dtype[np.bool_]]
_Floats = np.ndarray[Any, np.dtype[np.float32]]

# Exchanges stop after these rounds or multiply-adds; a greedy order is sought up to this number of additions.
# Each takes about a second at its limit, which only layers of 4096 channels reach.
_ROUNDS, _MULTIPLY_ADDS, _ADDITIONS = 60, 4e10, 1e9


def gather_rows(flags: _Flags, size: int) -> IntArray:
    """Return an order of rows such that the columns with a flag, summed over runs of ``size`` rows, are few.

    A greedy order, or the one that the rows have if that is no worse, is improved by exchanging first halves
    of runs, then quarters, at last single rows: rows that are alike only pay when they move together.

    Args:
        flags: Shape (rows, columns).
        size: Rows of a run; the last run may be shorter.
    """
    order = np.arange(len(flags))
    held = held_columns(flags, size)
    fewest = -(-flags.sum(axis=0) // size)
    if size == 1 or held == fewest.sum():
        return order
    if flags.size * len(flags) / size <= _ADDITIONS:
        greedy = _greedy(flags, size)
        order = greedy if held_columns(flags[greedy], size) < held else order
    part = size
    while part % 2 == 0 and len(flags) % (part // 2) == 0:
        part //= 2
        parts = order.reshape(-1, part)
        order = parts[_exchanged(np.logical_or.reduce(flags[parts], axis=1), size // part)].reshape(-1)
    return order if part == 1 else order[_exchanged(flags[order], size)]


def held_columns(flags: _Flags, size: int) -> int:
    """Return the number of columns with a flag, summed over runs of ``size`` rows."""
    return int(np.count_nonzero(np.logical_or.reduceat(flags, np.arange(0, len(flags), size))))


def _greedy(flags: _Flags, size: int) -> IntArray:
    """Begin each run with the fullest row left, then take rows that add the fewest columns, the fullest of several."""
    count = len(flags)
    columns = np.ascontiguousarray(flags.T)
    total = flags.sum(axis=1, dtype=np.int64)
    left = np.ones(count, dtype=bool)
    order = np.empty(count, dtype=np.int64)
    for start in range(0, count, size):
        held = np.zeros(flags.shape[1], dtype=bool)
        shared = np.zeros(count, dtype=np.int64)
        for place in range(start, min(start + size, count)):
            added = (total - shared) * (flags.shape[1] + 1) if place > start else 0
            row = int(np.where(left, added - total, np.iinfo(np.int64).max).argmin())
            order[place], left[row] = row, False
            new = flags[row] & ~held
            shared += columns[new].sum(axis=0, dtype=np.int64)
            held |= new
    return order


def _exchanged(flags: _Flags, size: int) -> IntArray:
    """Exchange rows of different runs as long as that saves columns, at most one of each run at a time."""
    order, rows = np.arange(len(flags)), flags.astype(np.float32)
    runs = np.arange(len(rows)) // size
    for _ in range(min(_ROUNDS, int(_MULTIPLY_ADDS / (len(rows) * rows.size)))):
        change = _changes(rows, runs)
        partner = change.argmin(axis=1)
        best = change[np.arange(len(rows)), partner]
        taken = np.zeros(runs[-1] + 1, dtype=bool)
        for row in np.argsort(best, kind="stable"):
            pair = np.array([row, partner[row]])
            if best[row] >= 0:
                break
            if not taken[runs[pair]].any():
                taken[runs[pair]] = True
                rows[pair], order[pair] = rows[pair[::-1]], order[pair[::-1]]
        if not taken.any():
            break
    return order


def _changes(rows: _Floats, runs: IntArray) -> _Floats:
    """Return the columns that are held more when two rows of different runs change places, shape (rows, rows)."""
    counts = np.add.reduceat(rows, np.flatnonzero(np.diff(runs, prepend=-1)))
    others = (counts[runs] - rows > 0).astype(np.float32)
    total = rows.sum(axis=1)
    alone = total - (rows * others).sum(axis=1)
    added = total[:, None] - rows @ others.T
    change: _Floats = added + added.T - alone[:, None] - alone[None, :]
    change[runs[:, None] == runs[None, :]] = 0
    return change
