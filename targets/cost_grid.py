"""Interpolation of measured times between the sizes that were measured, never falling where a size grows."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from smartc.targets.workload import Floats, Ints


@dataclass(frozen=True, eq=False)
class CostGrid:
    """Times on a grid of sizes, interpolated linearly in the logarithms of sizes and times.

    Beyond the largest size of an axis, time grows in proportion to it; below the smallest, it falls with
    a power of its own.  The result rises with every size, or stays.

    Attributes:
        axes: Sizes of each axis, ascending and positive.
        times: Shape (len(axis), ...); where they fall, both neighbours move to where they do not.
        below: For each axis the power with which time falls below the smallest size, 0 to 1.
    """

    axes: tuple[Floats, ...]
    times: Floats
    below: tuple[float, ...]

    @cached_property
    def _logarithms(self) -> Floats:
        """Return the logarithms of the times, nowhere falling: halfway between the two nearest such from both sides."""
        rising = falling = np.log(self.times)
        for axis in range(rising.ndim):
            rising = np.maximum.accumulate(rising, axis=axis)
            falling = np.flip(np.minimum.accumulate(np.flip(falling, axis), axis=axis), axis)
        middle: Floats = (rising + falling) / 2
        return middle

    def at(self, *sizes: Ints | Floats) -> Floats:
        """Return the times at some sizes, an array for each axis, all broadcast to one shape."""
        places, shares, beyond = [], [], np.zeros(())
        for knots, power, size in zip(self._knots, self.below, sizes, strict=True):
            wanted = np.log(np.maximum(size, 1e-9))
            inside = np.clip(wanted, knots[0], knots[-1])
            excess = wanted - inside
            beyond = beyond + np.where(excess > 0, excess, power * excess)
            place = np.clip(np.searchsorted(knots, inside, side="right") - 1, 0, max(len(knots) - 2, 0))
            width = knots[place + 1] - knots[place] if len(knots) > 1 else 1.0
            places.append(place)
            shares.append((inside - knots[place]) / width)
        interpolated: Floats = np.exp(self._inside(places, shares) + beyond)
        return interpolated

    @cached_property
    def _knots(self) -> tuple[Floats, ...]:
        """Return the logarithms of the sizes."""
        return tuple(np.log(np.asarray(axis, dtype=np.float64)) for axis in self.axes)

    def _inside(self, places: list[Ints], shares: list[Floats]) -> Floats:
        """Return the mean of the corners of the cells at some places, weighted by the shares of the way through."""
        total = np.zeros(())
        for corner in itertools.product((0, 1), repeat=len(places)):
            weight = np.ones(())
            for side, share in zip(corner, shares, strict=True):
                weight = weight * (share if side else 1 - share)
            index = tuple(
                np.minimum(place + side, len(axis) - 1)
                for place, side, axis in zip(places, corner, self.axes, strict=True)
            )
            total = total + weight * self._logarithms[index]
        return total
