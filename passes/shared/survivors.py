"""What is left of the tensors of a graph, and the sizes that they have then."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import fx

from smartc.analysis.channels.channel_groups import surviving
from smartc.analysis.channels.labels import BoolArray, Labels
from smartc.ir.traced_model import value_of


@dataclass(frozen=True, eq=False)
class Survivors:
    """What is left of each node's output."""

    labels: Mapping[fx.Node, Any]
    keep: BoolArray

    def along(self, labels: Labels, axis: int) -> BoolArray | None:
        """Return a flag for each index of an axis, true where it survives; None where no label covers the axis."""
        factor = labels.along(axis)
        if factor is None:
            return None
        alive = surviving(factor.labels, self.keep)
        if alive.ndim == 1:
            return alive
        place = factor.axes.index(axis % len(labels.shape))
        return np.asarray(alive.any(axis=tuple(other for other in range(alive.ndim) if other != place)))

    def of(self, node: Any, axis: int) -> BoolArray | None:
        """Return a flag for each index of an axis of a node's output, true where it survives; None where all do."""
        labels = self.labels.get(node)
        alive = self.along(labels, axis) if isinstance(labels, Labels) else None
        return None if alive is None or alive.all() else alive

    def size(self, node: fx.Node, axis: int, size: Any) -> Any:
        """Return the size of an axis of a node's output, given what it was: a number, or a node that computes it.

        A computed one is that of an axis that has so many indices for each sample: the share that survives is the same.
        """
        alive = self.of(node, axis)
        if alive is None or size == -1:
            return size
        if isinstance(size, fx.Node):
            with node.graph.inserting_before(node):
                return scaled(size, int(alive.sum()), len(alive))
        return int(alive.sum())


def scaled(size: fx.Node, numerator: int, denominator: int) -> fx.Node:
    """Return a new node of the size times a fraction of which it is a multiple."""
    value = value_of(size)
    times = size.graph.call_function(operator.mul, (size, numerator))
    times.meta["value"] = value * numerator
    scaled = size.graph.call_function(operator.floordiv, (times, denominator))
    scaled.meta["value"] = value * numerator // denominator
    return scaled
