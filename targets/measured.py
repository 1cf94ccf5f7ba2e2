"""A target whose times are measured: a device with the table of what its kernels took."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from smartc.core.records import encode
from smartc.targets.compute import done_macs, multiply_accumulates
from smartc.targets.cost_table import CostTable
from smartc.targets.latency import LayerCosts
from smartc.targets.target import Target
from smartc.targets.tiling import Tiling, tiling, whole_bytes
from smartc.targets.traffic import weight_bytes
from smartc.targets.workload import Flags, Floats, Ints, Operand, OpKind, Workload


@dataclass(frozen=True)
class MeasuredTarget(Target):
    """A device and its cost table.

    Attributes:
        costs: What kernels took.
        factors: By the names of one network's layers, what each takes there over what the table says; empty where
            no network was measured.  They are no part of the device's description.
    """

    costs: CostTable = field(hash=False)
    factors: Mapping[str, float] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, target: Target, costs: CostTable, *, blocks: bool) -> MeasuredTarget:
        """Return a target with a table.

        Args:
            target: Says how weights are cut into tiles; channels are kept in steps of what kernels compute at once.
            costs: What kernels took.
            blocks: Whether code that skips zero tiles is to be had.
        """
        skips = blocks and costs.has_packed
        parts = {name: getattr(target, name) for name in Target.__dataclass_fields__}
        parts["sparsity"] = replace(target.sparsity, zero_tile_skip=skips)
        cin, cout = (math.lcm(count, costs.step) for count in (target.align.cin, target.align.cout))
        parts["align"] = replace(target.align, cin=cin, cout=cout)
        return cls(**parts, costs=costs)

    def to_dict(self) -> dict[str, Any]:
        """Return the description and the table as plain dicts and lists, fit for JSON."""
        described = super().to_dict()
        del described["factors"]
        described["costs"] = encode(self.costs)
        return described

    def supports(self, op: str) -> bool:
        """Say that a processor runs every operator."""
        return True

    @property
    def assumption(self) -> str:
        """Return the sentence, without its full stop, that says what the figures are."""
        date = self.costs.date[:10]
        return f"{super().assumption}, {self.costs.processor}, on one thread; its table of kernels is of {date}"

    @property
    def needs_cost_table(self) -> bool:
        """Say that its table is there."""
        return False

    @property
    def time_kind(self) -> Literal["simulated", "estimated"]:
        """Return ``estimated``: times are sums of kernels that were measured one by one."""
        return "estimated"

    @property
    def guides_by_time(self) -> bool:
        """Say that MACs go where they save the most time: half the MACs of a network can be a third of its time."""
        return True

    def factors_of(self, layers: Sequence[str]) -> Floats:
        """Return the factor of each of some layers; one where a layer was not measured."""
        return np.array([self.factors.get(name, 1.0) for name in layers], dtype=np.float64)

    def price(self, work: Workload) -> LayerCosts:
        """Return what each layer takes by the table and its factor, in nanoseconds; causes are not known."""
        shape = tiling(self, work)
        times, listed = self.nanoseconds(work, shape)
        known = np.where((work.kind == OpKind.MATRIX) & listed, shape.live / np.maximum(shape.tiles, 1), 1.0)
        packed = weight_bytes(self, work, shape, listed) if listed.any() else np.zeros((), dtype=np.int64)
        stored = np.where(listed, packed, self._unpadded_bytes(work, shape)) * (work.operand == Operand.WEIGHT)
        causes = ("compute", "output", "weights", "activations", "overhead")
        parts: dict[str, Any] = dict.fromkeys(causes, np.zeros(())) | {
            "total": times * work.factor,
            "macs": multiply_accumulates(work),
            "done": done_macs(work, shape, listed),
            "weight_bytes": stored,
            "tiles": shape.tiles,
            "live_tiles": shape.live,
            "listed": listed,
            "useful": known,
        }
        spread = {name: np.broadcast_to(part, work.shape) for name, part in parts.items()}
        return LayerCosts(**spread, peak=self.costs.peak, frequency_hz=self.array.frequency_hz)

    def _unpadded_bytes(self, work: Workload, shape: Tiling) -> Ints:
        """Return the bytes of weights that are stored whole."""
        products = (work.kind <= OpKind.DEPTHWISE) * work.kernel * shape.cin * work.cout
        tables = (work.kind == OpKind.VECTOR) * work.stored_elements * work.cout
        return whole_bytes(products + tables, self.precision.weight_bits)

    def nanoseconds(self, work: Workload, shape: Tiling) -> tuple[Floats, Flags]:
        """Return the time of each layer in its faster form, and where that is the one that skips zero tiles."""
        dense = self.costs.dense(work, shape)
        if not self.sparsity.zero_tile_skip:
            return dense, np.zeros((), dtype=np.bool_)
        has_packed = (work.kind == OpKind.MATRIX) & (work.operand != Operand.ACTIVATION) & (work.repeats == 1)
        packed = np.where(has_packed, self.costs.packed(work, shape), np.inf)
        return np.minimum(dense, packed), packed < dense
