"""The options of groups on their convex hulls, and the steps along them by falling value per cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from smartc.analysis.channels.labels import BoolArray, IntArray

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

# Bits of a value per cost that count: beyond them lies rounding, and steps that are worth the same must come out so.
BITS = 32


@dataclass(frozen=True, eq=False)
class Hulls:
    """Options on the upper hulls of value over cost, and on the edges of these, each group's from the cheapest up.

    Attributes:
        group: The group of each option.
        option: Its place among those of its group as they were given.
        value: What it is worth.
        cost: What it costs.
    """

    group: IntArray
    option: IntArray
    value: FloatArray
    cost: FloatArray

    @classmethod
    def of(cls, values: Sequence[Any], costs: Sequence[Any]) -> Hulls:
        """Return the hulls, given the value and the cost of each option of each group."""
        lengths = [len(cost) for cost in costs]
        group = np.repeat(np.arange(len(lengths)), lengths)
        option = np.concatenate([np.arange(length) for length in lengths])
        value, cost = (np.concatenate(each).astype(np.float64) for each in (values, costs))
        # Of options of one cost the most valuable comes first, and of these the last.
        order = np.lexsort((-option, -value, cost, group))
        return cls(group[order], option[order], value[order], cost[order])._dropped()

    @cached_property
    def starts(self) -> IntArray:
        """Return the place of the cheapest option of each group."""
        return np.flatnonzero(np.append(True, self.group[1:] != self.group[:-1]))

    def _dropped(self) -> Hulls:
        """Return what is left without the options below the hulls.

        What one round drops lies below options that were there before it, so that it may drop several in a row.
        """
        hulls = self
        while True:
            follows, value, cost = hulls._differences()
            below = np.append(False, follows & ((cost <= 0) | (value < 0)))
            if not below.any():
                rates = np.where(follows, _rate(value, cost), -np.inf)
                below[1:-1] = follows[:-1] & (rates[:-1] < rates[1:])
            if not below.any():
                return hulls
            hulls = Hulls(*(part[~below] for part in (hulls.group, hulls.option, hulls.value, hulls.cost)))

    def _differences(self) -> tuple[BoolArray, FloatArray, FloatArray]:
        """Return whether each option follows another of its group, with the value and the cost that it adds."""
        return self.group[1:] == self.group[:-1], np.diff(self.value), np.diff(self.cost)

    @cached_property
    def steps(self) -> Steps:
        """Return the steps from option to option; those of the same value per cost are taken from all groups alike."""
        follows, value, cost = self._differences()
        group = self.group[1:][follows]
        lengths = np.bincount(self.group)
        place = (np.arange(len(self.group)) - np.repeat(self.starts, lengths))[1:][follows]
        value, cost = value[follows], cost[follows]
        order = np.lexsort((place / lengths[group], -_rate(value, cost)))
        return Steps(group[order], value[order], cost[order], len(lengths))


@dataclass(frozen=True, eq=False)
class Steps:
    """Steps from option to option of a hull, by falling value per cost; those of a group are in order.

    Attributes:
        group: The group of each.
        value: What it adds.
        cost: What it adds.
        groups: The number of groups.
    """

    group: IntArray
    value: FloatArray
    cost: FloatArray
    groups: int

    @cached_property
    def spent(self) -> FloatArray:
        """Return what the first steps cost together, for none, one and so on up to all of them."""
        return np.append(0.0, np.cumsum(self.cost))

    def counts(self, taken: IntArray) -> IntArray:
        """Return how many of the first steps are of each group, shape (K, groups), given how many are taken."""
        order = np.argsort(self.group, kind="stable")
        keys = self.group[order] * (len(order) + 1) + order
        asked = np.arange(self.groups) * (len(order) + 1) + taken[:, None]
        before = np.searchsorted(keys, asked)
        return np.asarray(before - np.searchsorted(self.group[order], np.arange(self.groups)), dtype=np.int64)


def _rate(value: FloatArray, cost: FloatArray) -> FloatArray:
    """Return values per cost without the bits that are rounding; 0 where nothing is paid."""
    with np.errstate(over="ignore"):
        rate = np.divide(value, cost, out=np.zeros(len(value)), where=cost > 0)
    mantissa, exponent = np.frexp(np.minimum(rate, np.finfo(np.float64).max))
    rounded: FloatArray = np.ldexp(np.round(np.ldexp(mantissa, BITS)), exponent - BITS)
    return rounded
