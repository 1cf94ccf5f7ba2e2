"""Labels: which channel each index of each axis of a tensor belongs to.

A tensor's labels are a product of factors.  A factor covers one axis, or several at once where a
``view`` has split one labelled axis; an element survives if the label of every factor does.
An axis that no factor covers keeps all of its indices.  Axes of size one are never labelled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import fx

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
_MEETS_WHOLE = "also takes a tensor all of whose channels stay"


@dataclass(frozen=True, eq=False)
class Factor:
    """Labels over one or more axes, ascending; the array has one dimension per axis."""

    axes: tuple[int, ...]
    labels: IntArray


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of one tensor of a given shape.

    ``weight`` tells parameters, and what is zero wherever they are, from everything else.
    """

    shape: tuple[int, ...]
    factors: tuple[Factor, ...] = ()
    weight: bool = False

    def along(self, axis: int) -> Factor | None:
        """Return the factor that covers an axis, counted from the end where negative."""
        axis %= max(len(self.shape), 1)
        return next((factor for factor in self.factors if axis in factor.axes), None)

    def renamed(self, axes: dict[int, int], shape: Sequence[int]) -> Labels:
        """Return labels of a tensor whose axis ``axes[i]`` is this one's axis ``i``."""
        factors = []
        for factor in self.factors:
            places = [axes[axis] for axis in factor.axes]
            order = np.argsort(places)
            factors.append(Factor(tuple(sorted(places)), factor.labels.transpose(order)))
        return Labels(tuple(shape), tuple(factors), self.weight)

    def mapped(self, change: Callable[[IntArray], IntArray]) -> Labels:
        """Return the same labels with every array changed elementwise."""
        return Labels(self.shape, tuple(Factor(f.axes, change(f.labels)) for f in self.factors), self.weight)


class Choice(NamedTuple):
    """Labels over several axes that meet labels over a part of these.

    Either both fall together, index by index of the narrow axes; or, where the wide labels do not vary along these
    (heads, each of which is whole), the narrow ones stay.
    """

    wide: Factor
    narrow: Factor


class Merge(NamedTuple):
    """Labels that follow one of several others, broadcast to them; the rest of these stay."""

    labels: IntArray
    options: tuple[IntArray, ...]
    place: str


class Statistics(NamedTuple):
    """A call that takes statistics over labels of its first argument, all along one axis; and what they normalise."""

    node: fx.Node
    axis: int
    labels: IntArray
    outputs: tuple[fx.Node, ...]


class Declined(Exception):
    """A rule's refusal; the reason completes "kept, because it meets `op`, which ..."."""


@dataclass
class Site:
    """The place where a rule is applied: the node, its output's shape, and what the rule records."""

    node: fx.Node
    shape: tuple[int, ...]
    book: LabelBook

    @property
    def rank(self) -> int:
        """Return the number of axes of the (first) output."""
        return len(self.shape)

    def fresh(self, shape: Sequence[int], axes: Sequence[int] | None = None) -> Labels:
        """Return new labels, a factor for each axis (or each given one) longer than one."""
        chosen = range(len(shape)) if axes is None else axes
        factors = tuple(Factor((axis,), self.book.new(shape[axis])) for axis in chosen if shape[axis] > 1)
        return Labels(tuple(shape), factors)

    def tie(self, left: IntArray, right: IntArray) -> None:
        """Record that two arrays of labels, broadcast together, survive or fall together."""
        self.book.tie(left, right)

    def freeze(self, labels: IntArray, reason: str) -> None:
        """Record that labels must survive, and why."""
        self.book.freeze(labels, reason)

    def freeze_all(self, value: Any, reason: str) -> None:
        """Freeze every label in a structure of arguments."""
        for factor in factors_in(value):
            self.freeze(factor.labels, reason)

    def sole(self, x: Labels, axis: int) -> IntArray | None:
        """Return the labels along one axis, made independent of all other axes; None if there are none."""
        factor = x.along(axis)
        if factor is None:
            return None
        place = factor.axes.index(axis % len(x.shape))
        rows = np.moveaxis(factor.labels, place, 0)
        rows = rows.reshape(len(rows), math.prod(rows.shape[1:]))
        self.tie(rows[:, :1], rows[:, 1:])
        return rows[:, 0]

    def uniform(self, x: Labels, axes: Sequence[int], reason: str) -> Labels:
        """Return labels that do not vary along the given axes.

        Where a factor covers other axes too, its labels are tied along the given ones; where it
        does not, they are frozen for the reason.
        """
        chosen = {axis % len(x.shape) for axis in axes}
        factors: list[Factor] = []
        for factor in x.factors:
            inside = [place for place, axis in enumerate(factor.axes) if axis in chosen]
            if not inside:
                factors.append(factor)
            elif len(inside) == len(factor.axes):
                self.freeze(factor.labels, reason)
            else:
                factors.append(self._tied_along(factor, inside))
        return Labels(x.shape, tuple(factors), x.weight)

    def open_factor(self, x: Labels, axes: Sequence[int]) -> Factor | None:
        """Return the one factor over one of some axes alone, where statistics over these may change; else None.

        Those of a weight may not: it is zero where it reads what is removed, and its statistics are of that too.
        """
        chosen = {axis % len(x.shape) for axis in axes}
        inside = [factor for factor in x.factors if set(factor.axes) <= chosen]
        allowed = self.book.approximate and not x.weight
        return inside[0] if allowed and len(inside) == 1 and len(inside[0].axes) == 1 else None

    def note_statistics(self, axis: int, labels: IntArray, outputs: tuple[fx.Node, ...]) -> None:
        """Record that this call's statistics change with labels of its first argument."""
        self.book.statistics.append(Statistics(self.node, axis, labels, outputs))

    def _tied_along(self, factor: Factor, places: list[int]) -> Factor:
        """Tie a factor's labels along some of its axes and return the factor without these."""
        first = factor.labels[tuple(slice(0, 1) if p in places else slice(None) for p in range(factor.labels.ndim))]
        self.tie(np.broadcast_to(first, factor.labels.shape), factor.labels)
        axes = tuple(axis for place, axis in enumerate(factor.axes) if place not in places)
        return Factor(axes, first.squeeze(tuple(places)))

    def product(self, *operands: Any) -> Labels:
        """Return the labels of a product: zero wherever a weight is whose labels it has."""
        labelled = [operand for operand in operands if isinstance(operand, Labels)]
        joined = self.join(*sorted(labelled, key=lambda operand: not operand.weight))
        own = {id(factor.labels) for operand in labelled if operand.weight for factor in operand.factors}
        return replace(joined, weight=bool(own) and all(id(factor.labels) in own for factor in joined.factors))

    def join(self, *operands: Any) -> Labels:
        """Return the labels of an elementwise operator, tying those of its operands."""
        joined: Labels | None = None
        for operand in operands:
            if isinstance(operand, Labels):
                aligned = align(operand, self.rank)
                joined = aligned if joined is None else self._join(joined, aligned)
        return Labels(self.shape, joined.factors if joined else ())

    def _join(self, left: Labels, right: Labels) -> Labels:
        """Join the labels of two operands of the same rank."""
        shape = tuple(max(pair) for pair in zip(left.shape, right.shape, strict=True))
        kept: list[Factor] = []
        for one, other in ((left, right), (right, left)):
            for factor in one.factors:
                partners = [f for f in other.factors if set(f.axes) & set(factor.axes)]
                if not partners:
                    whole = [axis for axis in factor.axes if other.shape[axis] > 1]
                    kept += self.uniform(replace(one, factors=(factor,)), whole, _MEETS_WHOLE).factors
                elif one is left:
                    kept += self._tie_factors(factor, partners)
        return Labels(shape, tuple({factor.axes: factor for factor in kept}.values()))

    def _tie_factors(self, factor: Factor, partners: list[Factor]) -> list[Factor]:
        """Tie a factor to those that share axes with it, and return the widest."""
        for partner in partners:
            shared = set(partner.axes) & set(factor.axes)
            if len(shared) < min(len(partner.axes), len(factor.axes)):
                factor, partner = (self._tied_but(one, shared) for one in (factor, partner))
            if len(partner.axes) == len(factor.axes):
                self.tie(factor.labels, partner.labels)
            else:
                narrow, wide = sorted((factor, partner), key=lambda one: len(one.axes))
                self.book.choices.append(Choice(wide, narrow))
        wider = [p for p in partners if set(p.axes) > set(factor.axes)]
        return wider or [factor]

    def _tied_but(self, factor: Factor, axes: set[int]) -> Factor:
        """Return a factor over some of its axes, its labels tied along the others."""
        places = [place for place, axis in enumerate(factor.axes) if axis not in axes]
        return self._tied_along(factor, places) if places else factor


@dataclass
class LabelBook:
    """Everything recorded while labels run through a graph.

    ``approximate`` tells whether norms may lose channels; ``statistics`` are those that may.
    """

    size: int = 0
    ties: list[tuple[IntArray, IntArray]] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    merges: list[Merge] = field(default_factory=list)
    frozen: list[tuple[IntArray, str]] = field(default_factory=list)
    owned: list[IntArray] = field(default_factory=list)
    read: list[IntArray] = field(default_factory=list)
    constants: dict[str | None, IntArray] = field(default_factory=dict)
    place: str = ""
    approximate: bool = False
    statistics: list[Statistics] = field(default_factory=list)

    def new(self, count: int) -> IntArray:
        """Return labels that nothing else has."""
        start, self.size = self.size, self.size + count
        return np.arange(start, self.size, dtype=np.int64)

    def tie(self, left: IntArray, right: IntArray) -> None:
        """Record an edge between each pair of labels."""
        left, right = np.broadcast_arrays(left, right)
        if left.size:
            self.ties.append((left.reshape(-1), right.reshape(-1)))

    def freeze(self, labels: IntArray, reason: str) -> None:
        """Record labels that must survive; the reason is completed by the place."""
        self.frozen.append((labels.reshape(-1), f"{self.place}{reason}"))


def align(x: Labels, rank: int) -> Labels:
    """Return labels with axes of size one put in front, as broadcasting does."""
    shift = rank - len(x.shape)
    if not shift:
        return x
    factors = tuple(Factor(tuple(a + shift for a in f.axes), f.labels) for f in x.factors)
    return Labels((1,) * shift + x.shape, factors)


def spread(factor: Factor, axes: tuple[int, ...]) -> IntArray:
    """Return a factor's array with a dimension for each of the given axes (size one where it has none)."""
    sizes = dict(zip(factor.axes, factor.labels.shape, strict=True))
    return factor.labels.reshape([sizes.get(axis, 1) for axis in axes])


def factors_in(value: Any) -> list[Factor]:
    """Return all factors of the labels in a nested structure of lists and tuples."""
    return [factor for labels in _labels_in(value) for factor in labels.factors]


def _labels_in(value: Any) -> list[Labels]:
    """Return all labels in a nested structure of lists and tuples."""
    if isinstance(value, Labels):
        return [value]
    if isinstance(value, (list, tuple)):
        return [labels for item in value for labels in _labels_in(item)]
    return []
