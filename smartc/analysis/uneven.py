"""Find the layers that have more channels of some units of a group than of others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from smartc.analysis.channels.channel_groups import FROZEN, ChannelGroups
from smartc.analysis.channels.labels import IntArray


@dataclass(frozen=True, eq=False)
class Uneven:
    """A side of a layer that has more channels of some units of a group than of others: an index repeats them.

    Attributes:
        row: The layer.
        side: 0 for its input channels, 1 for its output channels.
        group: The group.
        units: The units that it has channels of.
        counts: How many of each.
    """

    row: int
    side: int
    group: int
    units: IntArray
    counts: IntArray


def find_uneven(channels: Sequence[tuple[IntArray, IntArray]], groups: ChannelGroups) -> tuple[Uneven, ...]:
    """Return the uneven sides of layers.

    Args:
        channels: For each layer the unit of each input channel, and of each output channel.
        groups: The groups of the units.
    """
    sides = ((row, side, units) for row, layer in enumerate(channels) for side, units in enumerate(layer))
    return tuple(uneven for row, side, units in sides for uneven in _of_side(row, side, units, groups))


def _of_side(row: int, side: int, channels: IntArray, groups: ChannelGroups) -> Iterator[Uneven]:
    """Yield the groups that one side of a layer has unevenly."""
    units, counts = np.unique(channels[channels != FROZEN], return_counts=True)
    of = groups.group_of[units]
    for group in np.unique(of):
        mine = of == group
        if mine.sum() < len(groups.groups[group]) or counts[mine].min() < counts[mine].max():
            yield Uneven(row, side, int(group), units[mine], counts[mine])
