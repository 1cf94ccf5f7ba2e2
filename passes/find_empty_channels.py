"""Find channels that nothing reads any more, because every weight that would is zero there."""

from __future__ import annotations

from typing import Any

import numpy as np

from smartc.model import TracedModel
from smartc.passes.channel_groups import FROZEN, ChannelGroups
from smartc.targets.target import Target

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]


def find_empty_channels(model: TracedModel, groups: ChannelGroups, target: Target) -> BoolArray:
    """Return which units stay when all that no weight reads are removed, as ``RemoveChannels`` takes it.

    The smaller model computes what the model does.  Units go by runs that fill a side of a tile, so that
    the channels behind them keep their place in the tiles of every layer.  One run of each group stays.
    """
    silent = _silent(model, groups)
    run = max(target.array.rows, target.array.cols)
    keep = np.ones(groups.count, dtype=bool)
    for group in groups.groups:
        whole = group.units[: len(group) // run * run].reshape(-1, run)
        gone: BoolArray = np.logical_and.reduce(silent[whole], axis=1)
        if gone.all() and len(gone) * run == len(group):
            gone[:1] = False
        keep[whole[gone]] = False
    return keep


def _silent(model: TracedModel, groups: ChannelGroups) -> BoolArray:
    """Return which units have readers, all of them zero."""
    read, heard = (np.zeros(groups.count, dtype=bool) for _ in range(2))
    for axis in groups.axes:
        if axis.role != "reads":
            continue
        weight = model.tensor(axis.name).detach()
        others = [place for place in range(weight.ndim) if place != axis.axis]
        zero = ~(weight != 0).any(dim=others).cpu().numpy() if others else (weight == 0).cpu().numpy()
        held = axis.units != FROZEN
        read[axis.units[held]] = True
        heard[axis.units[held & ~zero]] = True
    silent: BoolArray = read & ~heard
    return silent
