"""A weight as the tiles of it that are not zero, with what says where they belong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad

Index = np.ndarray[Any, np.dtype[np.int32]]

# A packed weight costs its reader a step of unpacking: for less than this share of the bytes it is left dense.
LEAST_SAVING = 0.1


@dataclass(frozen=True)
class TileOrder:
    """How a weight falls into tiles: a matrix of block rows and block columns.

    A weight is seen as (groups, output channels, input channels, kernel positions), the last two counted
    within a group.  Tiles are R output by C input channels; those at an edge are filled up with zeros.
    Block rows run over the groups and, within each, over the output tiles.  Block columns run over the
    kernel positions in row-major order and, within each, over the input tiles.  Where the positions share
    their zeros, a tile has a layer for each, and the columns are the input tiles alone.

    Attributes:
        shape: (out, in // groups, *kernel); transposed (in, out // groups, *kernel).
        tile: R output channels, C input channels.
        per_kernel_position: Whether each kernel position has tiles of its own.
        groups: Of a grouped convolution.
        transposed: Whether the first axis of the shape is the input.
        folded: Whether the input channels of all kernel positions lie one after another, position by
            position, before they are cut into tiles: a tile can then reach over two positions.

    Raises:
        ValueError: The sizes do not make a weight, or ``folded`` tiles would be shared by positions.
    """

    shape: tuple[int, ...]
    tile: tuple[int, int]
    per_kernel_position: bool = True
    groups: int = 1
    transposed: bool = False
    folded: bool = False

    def __post_init__(self) -> None:
        """Check the sizes."""
        if len(self.shape) < 2 or self.groups < 1 or self.shape[0] % self.groups:
            raise ValueError(f"a weight of shape {self.shape} has no {self.groups} groups of channels")
        if min(self.tile) < 1:
            raise ValueError(f"a tile of {self.tile[0]} x {self.tile[1]} holds nothing")
        if self.folded and not self.per_kernel_position:
            raise ValueError("tiles that reach over kernel positions cannot be shared by them")

    @property
    def channels(self) -> tuple[int, int]:
        """Return the output and input channels of one group."""
        first, second = self.shape[0] // self.groups, self.shape[1]
        return (second, first) if self.transposed else (first, second)

    @property
    def positions(self) -> int:
        """Return the number of kernel positions."""
        return math.prod(self.shape[2:])

    @property
    def layers(self) -> int:
        """Return the number of kernel positions that one tile holds."""
        return 1 if self.per_kernel_position else self.positions

    @property
    def columns(self) -> tuple[int, int]:
        """Return the number of runs of input tiles in a block row, and the channels of a run."""
        inner = self.channels[1]
        if self.folded:
            return 1, self.positions * inner
        return (self.positions if self.per_kernel_position else 1), inner

    @property
    def blocks(self) -> tuple[int, int]:
        """Return the number of block rows and block columns."""
        runs, inner = self.columns
        return self.groups * -(-self.channels[0] // self.tile[0]), runs * -(-inner // self.tile[1])

    def cut(self, weight: torch.Tensor) -> torch.Tensor:
        """Return all tiles of a weight, shape (block rows, block columns, layers, R, C)."""
        (outer, inner), (rows, cols), (runs, length) = self.channels, self.tile, self.columns
        first, second = (inner, outer) if self.transposed else (outer, inner)
        seen = weight.detach().reshape(self.groups, first, second, self.positions)
        seen = seen.permute(0, 2, 3, 1) if self.transposed else seen.permute(0, 1, 3, 2)
        seen = seen.reshape(self.groups, outer, runs * self.layers, length)
        seen = pad(seen, (0, -length % cols, 0, 0, 0, -outer % rows))
        seen = seen.reshape(self.groups, -(-outer // rows), rows, runs, self.layers, -(-length // cols), cols)
        return seen.permute(0, 1, 3, 5, 4, 2, 6).reshape(*self.blocks, self.layers, rows, cols)

    def joined(self, tiles: torch.Tensor) -> torch.Tensor:
        """Return the weight whose tiles ``cut`` has returned."""
        (outer, inner), (rows, cols), (runs, length) = self.channels, self.tile, self.columns
        high, wide = -(-outer // rows), -(-length // cols)
        seen = tiles.reshape(self.groups, high, runs, wide, self.layers, rows, cols).permute(0, 1, 5, 2, 4, 3, 6)
        seen = seen.reshape(self.groups, high * rows, runs * self.layers, wide * cols)[:, :outer, :, :length]
        seen = seen.reshape(self.groups, outer, self.positions, inner)
        seen = seen.permute(0, 3, 1, 2) if self.transposed else seen.permute(0, 1, 3, 2)
        return seen.reshape(self.shape)


@dataclass(frozen=True, eq=False)
class PackedWeight:
    """The tiles of a weight that are not zero, block row by block row.

    Attributes:
        order: How the weight falls into tiles.
        tiles: Shape (n, R, C); (n, layers, R, C) where kernel positions share their zeros.
        row_ptr: Shape (block rows + 1,): tiles ``row_ptr[i]`` to ``row_ptr[i + 1]`` belong to block row i.
        col_idx: Shape (n,): the block column of each tile, ascending within a block row.
        permutation: Shape (output channels,): which output channel of the weight each row of the packed
            one is; the same channels in order unless rows were moved, never from one group to another.
    """

    order: TileOrder
    tiles: torch.Tensor
    row_ptr: Index
    col_idx: Index
    permutation: Index

    @property
    def live(self) -> int:
        """Return the number of tiles that are stored."""
        return len(self.col_idx)

    @property
    def total(self) -> int:
        """Return the number of tiles that the whole weight has."""
        return math.prod(self.order.blocks)

    @property
    def nbytes(self) -> int:
        """Return the bytes of the tiles and of their index."""
        return self.tiles.numel() * self.tiles.element_size() + self.row_ptr.nbytes + self.col_idx.nbytes

    @property
    def saving(self) -> float:
        """Return the share of the weight's bytes that packing saves; below zero where it costs more."""
        dense = math.prod(self.order.shape) * self.tiles.element_size()
        return 1 - self.nbytes / dense if dense else 0.0

    @property
    def permuted(self) -> bool:
        """Return whether rows were moved."""
        return not np.array_equal(self.permutation, np.arange(len(self.permutation)))

    def unpack(self) -> torch.Tensor:
        """Return the weight, bit for bit but for the sign of zeros in tiles that hold nothing else."""
        order = self.order
        tiles = torch.zeros(*order.blocks, order.layers, *order.tile, dtype=self.tiles.dtype)
        rows = np.repeat(np.arange(order.blocks[0]), np.diff(self.row_ptr))
        place = torch.from_numpy(rows), torch.from_numpy(self.col_idx.astype(np.int64))
        tiles[place] = self.tiles.reshape(self.live, order.layers, *order.tile)
        weight = order.joined(tiles)
        return moved_rows(weight, order, np.argsort(self.permutation).astype(np.int32)) if self.permuted else weight


def pack(
    weight: torch.Tensor,
    tile: tuple[int, int],
    per_kernel_position: bool = True,
    *,
    groups: int = 1,
    transposed: bool = False,
    folded: bool = False,
    permutation: Sequence[int] | Index | None = None,
) -> PackedWeight:
    """Return the tiles of a weight that are not zero.

    Args:
        weight: Shape (out, in // groups, *kernel), or (out, in) of a linear layer.
        tile: R output channels, C input channels.
        per_kernel_position: Whether each kernel position has tiles of its own.
        groups: Of a grouped convolution.
        transposed: The shape is (in, out // groups, *kernel).
        folded: Tiles may reach from one kernel position into the next.
        permutation: Which output channel each row becomes; the order that the weight has if not given.

    Raises:
        ValueError: The shape does not fit, or the permutation is none or leaves a group.
    """
    order = TileOrder(tuple(weight.shape), tile, per_kernel_position, groups, transposed, folded)
    count = groups * order.channels[0]
    rows = np.arange(count, dtype=np.int32) if permutation is None else np.asarray(permutation, dtype=np.int32)
    _check(rows, count, groups)
    weight = weight.detach().cpu()
    tiles = order.cut(weight if permutation is None else moved_rows(weight, order, rows))
    live = (tiles != 0).flatten(2).any(dim=2)
    row_ptr = np.zeros(order.blocks[0] + 1, dtype=np.int32)
    np.cumsum(live.sum(dim=1).numpy(), out=row_ptr[1:])
    col_idx = live.nonzero()[:, 1].numpy().astype(np.int32)
    kept = tiles[live]
    return PackedWeight(order, kept.squeeze(1) if per_kernel_position else kept, row_ptr, col_idx, rows)


def moved_rows(weight: torch.Tensor, order: TileOrder, rows: Index) -> torch.Tensor:
    """Return a weight whose output channel i is what channel ``rows[i]`` was."""
    index = torch.from_numpy(rows.astype(np.int64))
    if not order.transposed:
        return weight.index_select(0, index)
    # The outputs of a group lie on axis 1, its inputs on a part of axis 0.
    outer, inner = order.channels
    group = torch.arange(order.groups)[:, None]
    seen = weight.reshape(order.groups, inner, outer, order.positions)
    moved = seen[group, :, index.reshape(order.groups, outer) - group * outer]
    return moved.transpose(1, 2).reshape(order.shape)


def _check(rows: Index, count: int, groups: int) -> None:
    """Raise unless rows are a permutation within each group."""
    if not np.array_equal(np.sort(rows), np.arange(count)):
        raise ValueError(f"the rows are no permutation of {count} output channels")
    if count and (rows // (count // groups) != np.arange(count) // (count // groups)).any():
        raise ValueError(f"the rows leave their group, one of {groups}")
