"""Windows that reach beyond their map, on rows without gaps: bits say which of the pixels that a tap reads are its."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from smartc.kernels.inference.chunking import Chunks
from smartc.kernels.inference.geometry import Geometry
from smartc.kernels.inference.layout import Grid, Layout
from smartc.kernels.inference.packing import Integers


def edge_bits(geometry: Geometry, grid: Grid, parts: list[Chunks]) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Return for each chunk, each of its vectors and then its single pixel, and each tap: a bit for each lane.

    A bit is set where the output has the pixel and the tap reads one of the map.  Shape (entries * taps,).
    """
    places = np.concatenate([_places(part, grid.lanes) for part in parts])
    y, x = places[:, None, :] // grid.pitch, places[:, None, :] % grid.pitch
    down, right = (np.array(shifts)[:, None] for shifts in zip(*geometry.shifts, strict=True))
    row, column = y * geometry.stride[0] + down, x * geometry.stride[1] + right
    read = (row >= 0) & (row < geometry.source[0]) & (column >= 0) & (column < geometry.source[1])
    read &= (places[:, None, :] >= 0) & (y < grid.height) & (x < grid.width)
    bits = (read << np.arange(grid.lanes)).sum(axis=2)
    return np.asarray(bits, np.uint16).ravel()


def _places(part: Chunks, lanes: int) -> Integers:
    """Return the place of each lane of every entry of the chunks, -1 beside a single pixel, shape (entries, lanes)."""
    chunk = np.arange(part.count)[:, None, None]
    lane = np.arange(lanes)
    vectors = part.first + chunk * part.step + np.arange(part.vectors)[:, None] * lanes + lane
    if part.single is not None:
        single = np.where(lane == 0, part.single + chunk * part.single_step, -1)
        vectors = np.concatenate([vectors, single], axis=1)
    return np.asarray(vectors, np.int32).reshape(-1, lanes)


def inside(part: Chunks, layout: Layout, taps: Sequence[int], lanes: int) -> range:
    """Return the range of chunks that read, by every tap, only elements of the buffer."""
    batch, channels = layout.shape[:2]
    last = layout.offset + (batch - 1) * layout.strides[0] + (channels - 1) * layout.strides[1]
    places = _places(part, lanes).reshape(part.count, -1)
    first, final = np.where(places < 0, places[:, :1], places).min(axis=1), places.max(axis=1)
    whole = (layout.offset + first + min(taps) >= 0) & (last + final + max(taps) < layout.size)
    found = np.flatnonzero(whole)
    return range(int(found[0]), int(found[-1]) + 1) if len(found) else range(0)
