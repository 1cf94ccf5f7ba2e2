"""Count the weight tiles that are not all zero, as a target's array would run them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from smartc.targets.target import Target

_Flags = np.ndarray[Any, np.dtype[np.bool_]]


def live_tiles(weight: torch.Tensor, target: Target, *, groups: int = 1, transposed: bool = False) -> int:
    """Return how many tiles of a layer hold a weight that is not zero, edge tiles whole.

    Where the target's kernel positions share their zeros, a weight counts as live at all positions if
    it is not zero at one.  A count of all tiles is what ``smartc.targets.tiling`` gives.

    Args:
        weight: Shape (out, in // groups, *kernel), or (out, in) of a linear layer.
        target: Its array's rows are input channels, its columns output channels.
        groups: Of the convolution; tiles never reach over two of them.
        transposed: The shape is (in, out // groups, *kernel), or (in, out) of a matrix product.

    Raises:
        ValueError: The weight has no two axes of channels, or its first is no multiple of ``groups``.
    """
    if weight.ndim < 2 or groups < 1 or weight.shape[0] % groups:
        raise ValueError(f"a weight of shape {tuple(weight.shape)} has no {groups} groups of channels")
    rows, cols = target.array.rows, target.array.cols
    kernel = int(np.prod(weight.shape[2:], dtype=np.int64))
    nonzero: _Flags = (weight.detach() != 0).cpu().numpy()
    flags: _Flags = nonzero.reshape(groups, weight.shape[0] // groups, weight.shape[1], kernel)
    shared = not target.sparsity.per_kernel_position
    if shared:
        flags = np.logical_or.reduce(flags, axis=3, keepdims=True)
    into, out = (1, 2) if transposed else (2, 1)
    if target.array.reduction == "channel":
        # The outer axis first: its runs in memory are the longest, and what is left is small.
        sizes = {into: rows, out: cols}
        live = np.count_nonzero(any_of_runs(any_of_runs(flags, 1, sizes[1]), 2, sizes[2]))
        return int(live) * (kernel if shared else 1)
    wide = np.moveaxis(any_of_runs(flags, out, cols), (out, 3, into), (1, 2, 3))
    folded = np.broadcast_to(wide, (*wide.shape[:2], kernel, wide.shape[3])).reshape(*wide.shape[:2], -1)
    return int(np.count_nonzero(any_of_runs(folded, 2, rows)))


def any_of_runs(flags: _Flags, axis: int, size: int) -> _Flags:
    """Return for each run of ``size`` flags along an axis, the last one shorter, whether any is set."""
    if not flags.size:
        return flags
    whole = flags.shape[axis] // size * size
    shape = (*flags.shape[:axis], whole // size, size, *flags.shape[axis + 1 :])
    body, edge = np.split(flags, [whole], axis=axis)
    runs = np.bitwise_or.reduce(body.reshape(shape), axis=axis + 1)
    return np.concatenate((runs, edge.any(axis=axis, keepdims=True)), axis=axis) if edge.size else runs
