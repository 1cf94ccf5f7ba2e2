"""The cost of layers by the number of units that each keeps: time, multiplications or bytes on a target."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from smartc.analysis.channels.labels import IntArray
from smartc.analysis.find_layers import Layers
from smartc.masks.layouts import MaskLayout, Tiles
from smartc.masks.units import FloatArray, Units
from smartc.targets.latency import LayerCosts, Measure
from smartc.targets.target import Target


@dataclass(frozen=True, eq=False)
class LiveWeights:
    """The layers of a network whose weights keep some of their units.

    Where a unit is a tile of the target, costs are exact; of smaller ones each is taken to keep a tile alive
    by itself, as several can lie in one only by chance.

    Attributes:
        units: Blocks or single weights.
        layers: All layers of the network.
        target: The device.
        measure: ``latency`` in cycles, ``macs`` that the device does, or ``bytes`` of weights.
    """

    units: Units
    layers: Layers
    target: Target
    measure: Measure = "latency"

    @cached_property
    def _places(self) -> tuple[IntArray, IntArray]:
        """Return the rows that read masked weights, and which weight each reads."""
        number = {weight.name: place for place, weight in enumerate(self.units.weights)}
        pairs = [
            (row, number[layer.shape.weight])
            for row, layer in enumerate(self.layers.rows)
            if layer.shape.weight is not None and layer.shape.weight in number
        ]
        table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        return table[:, 0], table[:, 1]

    @cached_property
    def _whole(self) -> LayerCosts:
        """Return the cost of every layer with all of its weights."""
        return self.target.price(self.layers.workload(self.target, self.layers.full_sizes))

    @cached_property
    def _reach(self) -> IntArray:
        """Return, for each masked weight, the most tiles of the target that one of its units keeps alive."""
        return np.array([_reach(weight.layout, self.target) for weight in self.units.weights], dtype=np.int64)

    @cached_property
    def other(self) -> float:
        """Return the cost of all layers that no mask acts on."""
        rest = np.ones(len(self.layers.rows), dtype=bool)
        rest[self._places[0]] = False
        return float(self._whole.in_measure(self.measure)[rest].sum())

    @property
    def total(self) -> float:
        """Return the cost of the whole network with all of its weights."""
        return self.other + float(self.by_layer(self.units.per_layer.astype(np.float64)).sum())

    @property
    def least(self) -> float:
        """Return the cost of the network when nothing of its masked weights stays."""
        return self.other + float(self.by_layer(np.zeros(len(self.units.names))).sum())

    def by_layer(self, kept: FloatArray | IntArray) -> FloatArray:
        """Return the cost of each masked weight's layers, given how many of its units it keeps."""
        rows, weights = self._places
        kept = np.asarray(kept, dtype=np.float64)
        live = np.minimum(np.ceil((kept * self._reach)[weights] - 1e-9), self._whole.tiles[rows]).astype(np.int64)
        sizes = self.layers.full_sizes
        work = self.layers.workload(self.target, (sizes[0][rows], sizes[1][rows]), rows, live)
        amounts = self.target.price(work).in_measure(self.measure)
        return np.asarray(np.bincount(weights, amounts, minlength=len(self.units.weights)), dtype=np.float64)


def _reach(layout: MaskLayout, target: Target) -> int:
    """Return the most tiles of a target's array that a unit of a weight can lie in."""
    if not isinstance(layout, Tiles):
        return 1
    array, alone = target.array, layout.per_tap and target.sparsity.per_kernel_position
    # Where kernel positions are folded into the rows, a run of channels begins anywhere in a tile.
    aligned = array.reduction == "channel" or layout.taps == 1
    deep = _runs(layout.columns, layout.into, array.rows, aligned)
    return _runs(layout.rows, layout.out, array.cols, True) * deep * (1 if alone else layout.taps)


def _runs(length: int, whole: int, tile: int, aligned: bool) -> int:
    """Return the most tiles that a run of channels can lie in, one of several such runs in a row or all channels."""
    if aligned and length >= whole:
        return -(-whole // tile)
    if aligned and (length % tile == 0 or tile % length == 0):
        return max(length // tile, 1)
    return (min(length, whole) - 2) // tile + 2
