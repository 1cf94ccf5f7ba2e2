"""Channel groups: the units of channels that are removed together, and the axes that they touch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import fx

from smartc.analysis.channels.labels import IntArray

Role = Literal["owns", "reads", "follows"]
FROZEN = -1


@dataclass(frozen=True, eq=False)
class ParameterAxis:
    """One axis of a parameter or buffer that has removable channels.

    Attributes:
        name: One of the tensor's names.
        axis: Which axis.
        role: Whether its indices own their channels, read them, or follow.
        units: The unit of each index; FROZEN where the index always stays.
    """

    name: str
    axis: int
    role: Role
    units: IntArray


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Units that are alike: they touch the same axes equally often.

    Attributes:
        name: The layer that owns them (the first of several).
        units: The members.
        weight: How many owned channels one unit stands for.
    """

    name: str
    units: IntArray
    weight: int

    def __len__(self) -> int:
        """Return the number of units."""
        return len(self.units)


@dataclass(frozen=True, eq=False)
class ApproximateNorm:
    """A call that takes statistics over removable channels: without some of them it computes something else.

    Attributes:
        node: The call: a norm, or a mean or variance of a norm that is written out.
        axis: Of its first argument, that of the channels.
        units: The unit of each index of that axis; FROZEN where the index always stays.
        outputs: The calls whose outputs are normalised.
    """

    node: fx.Node
    axis: int
    units: IntArray
    outputs: tuple[fx.Node, ...]


@dataclass(frozen=True, eq=False)
class ChannelGroups:
    """The result of the analysis.

    Attributes:
        count: Number of removable units.
        groups: The units, by likeness; every unit is in exactly one group.
        axes: The axes of parameters and buffers that have removable channels.
        labels: Per node, the units of its output's axes (a tuple for several outputs).
        frozen: Per parameter axis (name, axis) that owns or reads only frozen channels, the reason.
        norms: The calls whose statistics change with what is removed; none unless the analysis allows that.
    """

    count: int
    groups: tuple[ChannelGroup, ...]
    axes: tuple[ParameterAxis, ...]
    labels: Mapping[fx.Node, Any]
    frozen: Mapping[tuple[str, int], str]
    norms: tuple[ApproximateNorm, ...] = ()

    @property
    def group_of(self) -> IntArray:
        """Return the group of each unit."""
        of = np.empty(self.count, dtype=np.int64)
        for index, group in enumerate(self.groups):
            of[group.units] = index
        return of

    def changed_norms(self, keep: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[ApproximateNorm, ...]:
        """Return the norms that lose channels; ``keep`` has an entry per unit."""
        return tuple(norm for norm in self.norms if not surviving(norm.units, keep).all())

    @property
    def channels(self) -> int:
        """Return the number of removable owned channels."""
        return sum(len(group) * group.weight for group in self.groups)


def surviving(units: IntArray, keep: np.ndarray[Any, np.dtype[np.bool_]]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return a flag for each index, true where its unit stays; ``keep`` has an entry per unit."""
    extended = np.append(keep, True)
    return extended[units]
