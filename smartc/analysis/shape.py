"""The sizes of a layer as the latency model takes them, and what they are found from."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import fx

from smartc.analysis.channels.channel_groups import FROZEN
from smartc.analysis.channels.labels import IntArray, Labels
from smartc.ir.traced_model import Value, value_of
from smartc.targets.workload import Operand, OpKind

UnitLabels = Mapping[fx.Node, Any]


@dataclass(frozen=True, eq=False)
class Shape:
    """The sizes of one layer for a batch of one; ``reads`` and ``writes`` hold a unit per channel.

    Attributes:
        scales: Whether the number of groups falls with the channels; each has ``per_group`` of them.
        residual: Whether a tensor of the output's size is added.
        operand: What the input is multiplied by.
        constants: The nodes of what is stored with the network and read by this layer alone or with others.
        weight: The name of its parameter, if it has one.
        part: What it is of a call that is several layers, such as ``scores`` of attention; "" for a whole call.
        op: The operator whose work it is, where that is not the call's own.
    """

    kind: OpKind
    reads: IntArray
    writes: IntArray
    pixels: int
    kernel: int = 1
    groups: int = 1
    scales: bool = False
    per_group: int = 1
    input_elements: int = 1
    output_elements: int = 1
    vector_elements: int = 0
    stored_elements: int = 0
    repeats: int = 1
    residual: bool = False
    operand: Operand = Operand.WEIGHT
    constants: tuple[fx.Node, ...] = ()
    weight: str | None = None
    part: str = ""
    op: str = ""


@dataclass(frozen=True, eq=False)
class Known:
    """What sizes are found from, beside the call itself.

    Attributes:
        labels: The units along the axes of each node's output.
        live: The nodes that depend on an input; the others are constants by the time of use.
    """

    labels: UnitLabels
    live: Collection[fx.Node]

    def is_stored(self, operand: Any) -> bool:
        """Say whether an operand is a constant of the network."""
        return isinstance(operand, fx.Node) and operand not in self.live

    def constants(self, *operands: Any) -> tuple[fx.Node, ...]:
        """Return those of some operands that are constants of the network."""
        return tuple(operand for operand in operands if self.is_stored(operand))

    def operand(self, node: Any) -> Operand:
        """Return what it is that stands in the place of a weight."""
        return Operand.WEIGHT if self.is_stored(node) else Operand.ACTIVATION


def sizes_of(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of a node's first output for a batch of one."""
    value = first_of(value_of(node))
    return value.single if isinstance(value, Value) else ()


def first_of(value: Any) -> Any:
    """Return the first of several outputs, or the only one."""
    return value[0] if isinstance(value, (tuple, list)) and value else value


def units_along(labels: Labels, axis: int) -> IntArray:
    """Return the unit of each index of an axis; FROZEN where no label covers it."""
    size = labels.shape[axis] if labels.shape else 1
    factor = labels.along(axis) if labels.shape else None
    if factor is None:
        return np.full(size, FROZEN, dtype=np.int64)
    place = factor.axes.index(axis % len(labels.shape))
    return factor.labels[tuple(slice(None) if own == place else 0 for own in range(factor.labels.ndim))]


def units_over(labels: Labels, axes: Sequence[int], sizes: Sequence[int]) -> IntArray:
    """Return the unit of each place of some axes, ascending, in row-major order; FROZEN where no label covers it.

    Where several factors cover them, the first one that can lose units counts: sizes follow one count each.
    """
    for axis in axes:
        factor = labels.along(axis) if labels.shape else None
        if factor is None:
            continue
        picked = factor.labels[tuple(slice(None) if own in axes else 0 for own in factor.axes)]
        spread = [size if own in factor.axes else 1 for own, size in zip(axes, sizes, strict=True)]
        if picked.size == math.prod(spread) and (picked != FROZEN).any():
            return np.broadcast_to(picked.reshape(spread), sizes).reshape(-1)
    return np.full(math.prod(sizes), FROZEN, dtype=np.int64)


def parameter_name(node: Any) -> str | None:
    """Return the name of a parameter that is read directly."""
    return str(node.target) if isinstance(node, fx.Node) and node.op == "get_attr" else None
