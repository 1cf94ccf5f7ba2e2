"""A target whose times are measured: a device with the table of what its kernels took."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from smartc.core.records import encode
from smartc.targets.cost_table import CostTable
from smartc.targets.target import Target
from smartc.targets.tiling import Tiling
from smartc.targets.workload import Flags, Floats, OpKind, Workload


@dataclass(frozen=True)
class MeasuredTarget(Target):
    """A device and its cost table."""

    costs: CostTable = field(hash=False)

    @classmethod
    def of(cls, target: Target, costs: CostTable, *, blocks: bool) -> MeasuredTarget:
        """Return a target with a table.

        Args:
            target: Says how weights are cut into tiles; channels are kept in steps of what kernels compute at once.
            costs: What kernels took.
            blocks: Whether code that skips zero tiles is to be had.
        """
        skips = blocks and costs.has_packed
        parts = {name: getattr(target, name) for name in target.__dataclass_fields__ if name != "costs"}
        parts["sparsity"] = replace(target.sparsity, zero_tile_skip=skips)
        cin, cout = (math.lcm(count, costs.step) for count in (target.align.cin, target.align.cout))
        parts["align"] = replace(target.align, cin=cin, cout=cout)
        return cls(**parts, costs=costs)

    def to_dict(self) -> dict[str, Any]:
        """Return the description and the table as plain dicts and lists, fit for JSON."""
        described = super().to_dict()
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

    def nanoseconds(self, work: Workload, shape: Tiling) -> tuple[Floats, Flags]:
        """Return the time of each layer in its faster form, and where that is the one that skips zero tiles."""
        dense = self.costs.dense(work, shape)
        if not self.sparsity.zero_tile_skip:
            return dense, np.zeros((), dtype=np.bool_)
        packed = np.where(work.kind == OpKind.MATRIX, self.costs.packed(work, shape), np.inf)
        return np.minimum(dense, packed), packed < dense
