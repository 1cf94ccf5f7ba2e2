"""The latency model: cycles of many layers at once on a target, by cause."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from smartc.targets.compute import compute_cycles, done_macs, multiply_accumulates, output_cycles
from smartc.targets.tiling import Tiling, tiling
from smartc.targets.traffic import activation_bytes, pattern_bytes, weight_bytes, weight_traffic
from smartc.targets.workload import Flags, Floats, Ints, Operand, OpKind, Workload

if TYPE_CHECKING:
    from smartc.targets.target import Target

Measure = Literal["latency", "macs", "bytes"]
BOUNDS = ("compute", "output", "memory", "overhead", "none")


@dataclass(frozen=True, eq=False)
class LayerCosts:
    """What layers cost: arrays of one shape, not to be written to, in cycles unless said otherwise."""

    compute: Floats
    output: Floats
    weights: Floats  # traffic of weights and their index
    activations: Floats  # traffic of activations
    overhead: Floats
    total: Floats
    macs: Ints  # by definition: a mask does not lower them
    done: Ints  # of ``macs``, what the device does: all but those of the zero tiles that it skips
    weight_bytes: Ints  # as stored, index included; 0 where another layer's are used again
    tiles: Ints  # 0 where the layer is not a MATRIX
    live_tiles: Ints
    listed: Flags  # where only live tiles are stored; elsewhere that would not have been faster
    useful: Floats  # share of ``macs`` that the device computes and that is not known to be zero
    peak: float  # MACs of the array per cycle
    frequency_hz: float

    @cached_property
    def bound(self) -> Ints:
        """Return which cause is the largest, as an index into ``BOUNDS``."""
        causes = (self.compute, self.output, self.weights + self.activations, self.overhead)
        largest = np.argmax(causes, axis=0)
        # Where nothing but the total is known, no cause is the largest.
        known = np.max(causes, axis=0) > 0
        return np.where(known & (self.total > 0), largest, len(BOUNDS) - 1)

    @cached_property
    def utilisation(self) -> Floats:
        """Return useful MACs / (cycles x peak MACs per cycle), 0 to 1."""
        possible = np.maximum(self.total * self.peak, 1e-300)
        return np.minimum(self.macs * self.useful / possible, 1.0)

    @property
    def ms(self) -> Floats:
        """Return the total in milliseconds."""
        return self.total / self.frequency_hz * 1e3

    def in_measure(self, measure: Measure) -> Floats | Ints:
        """Return what each layer costs in cycles, in multiply-accumulates done, or in bytes of weights as stored."""
        costs: dict[Measure, Floats | Ints]
        costs = {"latency": self.total, "macs": self.done, "bytes": self.weight_bytes}
        return costs[measure]

    @property
    def total_ms(self) -> float:
        """Return the sum over all layers in milliseconds."""
        return float(self.ms.sum())


@dataclass(frozen=True, eq=False)
class _StoredCosts:
    """The causes of the cost that depend on how the weights are stored."""

    compute: Floats
    weights: Floats
    activations: Floats
    total: Floats
    weight_bytes: Ints
    listed: Flags


def modelled_costs(target: Target, work: Workload) -> LayerCosts:
    """Return what each layer costs by the latency model of a device.

    A mask is used only where that is faster than to ignore it, or as fast and smaller: listing tiles
    costs bytes and cycles too.  Therefore the total never rises when channels, groups, pixels or live
    tiles fall.
    """
    shape = tiling(target, work)
    output = output_cycles(target, work)
    overhead = (work.kind != OpKind.FREE) * (target.overhead.launch_us * 1e-6 * target.array.frequency_hz)
    pricing = _Pricing(target, work, shape, output, overhead)
    none = np.zeros((), dtype=np.bool_)
    cost = pricing.cost(none, none)
    if target.sparsity.zero_tile_skip or target.sparsity.weight_compression:
        masked = (shape.live < shape.tiles) & work.supported
        if masked.any():
            cost = _cheaper(pricing.cost(masked, none), cost)
    patterned = work.patterned & (work.kind == OpKind.MATRIX) & work.supported
    if target.sparsity.nm != "none" and patterned.any():
        cost = _cheaper(pricing.cost(none, patterned), cost)
    return pricing.latency(cost)


@dataclass(frozen=True, eq=False)
class _Pricing:
    """The layers with what does not depend on how their weights are stored."""

    target: Target
    work: Workload
    shape: Tiling
    output: Floats
    overhead: Floats

    def cost(self, listed: Flags, pattern: Flags) -> _StoredCosts:
        """Return the cost where only the live tiles of the ``listed`` layers are stored, others by the pattern."""
        target, work, shape = self.target, self.work, self.shape
        compute = compute_cycles(target, work, shape, listed, pattern)
        stored = weight_bytes(target, work, shape, listed)
        if pattern.any():
            stored = np.where(pattern, pattern_bytes(target, stored), stored)
        bandwidth = target.memory.dram_bytes_per_cycle * target.calibration.bandwidth_efficiency
        weights = weight_traffic(target, work, stored) / bandwidth
        activations = activation_bytes(target, work, shape, stored) / bandwidth
        memory = weights + activations
        if target.memory.overlap:
            total = self.overhead + np.maximum(np.maximum(compute, self.output), memory)
        else:
            total = self.overhead + (compute + self.output + memory)
        return _StoredCosts(compute, weights, activations, total, stored, listed)

    def latency(self, cost: _StoredCosts) -> LayerCosts:
        """Return the cost with what does not depend on it, each part broadcast to the common shape."""
        work, shape, array = self.work, self.shape, self.target.array
        known = np.where(work.kind == OpKind.MATRIX, shape.live / np.maximum(shape.tiles, 1), 1.0)
        parts = vars(cost) | {
            "output": self.output,
            "overhead": self.overhead,
            "macs": multiply_accumulates(work),
            "done": done_macs(work, shape, cost.listed & self.target.sparsity.zero_tile_skip),
            "weight_bytes": cost.weight_bytes * (work.operand != Operand.SHARED),
            "tiles": shape.tiles,
            "live_tiles": shape.live,
            "useful": known * work.supported,
        }
        spread = {name: np.broadcast_to(part, work.shape) for name, part in parts.items()}
        peak = array.rows * array.cols * array.tiles_per_cycle
        return LayerCosts(**spread, peak=peak, frequency_hz=array.frequency_hz)


def _cheaper(listed: _StoredCosts, whole: _StoredCosts) -> _StoredCosts:
    """Return, layer by layer, the faster of two costs, or the one of fewer bytes where they tie."""
    fewer = (listed.total == whole.total) & (listed.weight_bytes < whole.weight_bytes)
    better = (listed.total < whole.total) | fewer
    if better.all():
        return listed
    return _StoredCosts(**{name: np.where(better, part, vars(whole)[name]) for name, part in vars(listed).items()})
