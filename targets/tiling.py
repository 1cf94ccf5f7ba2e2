"""How the weights of layers fall into tiles of a target's array, edge tiles whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from smartc.targets.workload import Ints, OpKind, Workload

if TYPE_CHECKING:
    from smartc.targets.target import Target


@dataclass(frozen=True, eq=False)
class Tiling:
    """Counts per layer; arrays of any shapes that broadcast with the workload's."""

    pixels: Ints  # rounded up to the target's quantum
    taps: Ints
    groups: Ints
    cin: Ints  # of one group
    cout: Ints  # of one group
    deep: Ints  # tiles along the reduction, in one group
    wide: Ints  # tiles along the output channels, in one group
    tiles: Ints  # all tiles; 0 where the layer is not a MATRIX
    live: Ints  # tiles that are not zero


def tiling(target: Target, work: Workload) -> Tiling:
    """Return the tile counts of each layer on the target."""
    array = target.array
    groups = np.maximum(work.groups, 1)
    cin, cout = ceil_div(work.cin, groups), ceil_div(work.cout, groups)
    by_channel = array.reduction == "channel"
    deep = work.kernel * ceil_div(cin, array.rows) if by_channel else ceil_div(work.kernel * cin, array.rows)
    wide = ceil_div(cout, array.cols)
    tiles = (work.kind == OpKind.MATRIX) * groups * deep * wide
    given = work.live_tiles >= 0
    live = np.where(given, np.minimum(work.live_tiles, tiles), tiles) if given.any() else tiles
    pixels = round_up(work.pixels, target.align.pixels)
    return Tiling(pixels, work.kernel, groups, cin, cout, deep, wide, tiles, live)


def ceil_div(count: Ints, size: Ints | int) -> Ints:
    """Return how many parts of ``size`` hold ``count``, the last one whole."""
    if isinstance(size, int) and size == 1:
        return count
    parts: Ints = count + (size - 1)
    parts //= size
    return parts


def round_up(count: Ints, quantum: int) -> Ints:
    """Return the next multiple of ``quantum``."""
    return count if quantum == 1 else ceil_div(count, quantum) * quantum


def whole_bytes(count: Ints, bits: int) -> Ints:
    """Return the bytes that hold ``count`` values of ``bits`` each."""
    return count * (bits // 8) if bits % 8 == 0 else ceil_div(count * bits, 8)
