"""The price of what becomes of blocks: without the channels that nothing reads any more, in their last order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from smartc.analysis.channels.channel_groups import FROZEN
from smartc.analysis.channels.labels import IntArray
from smartc.analysis.weight_use import weight_use
from smartc.decision.decision import SAME_TIME, unread_channels, with_groups_of
from smartc.decision.job import CompileJob
from smartc.decision.result_cost import result_cost
from smartc.ir.traced_model import storage_key
from smartc.learning.budgets.live_tiles_of_blocks import BlocksInTiles
from smartc.masks.layouts import BoolArray, Tiles
from smartc.masks.units import Units
from smartc.packing.channel_order import in_fewest_tiles
from smartc.passes.stages import run_stage
from smartc.targets.latency import LayerCosts


@dataclass(frozen=True, eq=False)
class ResultPrice:
    """Prices what a job makes of its model when some blocks stay.

    Attributes:
        job: What is compiled.
        units: Its blocks.
    """

    job: CompileJob
    units: Units

    def bound(self, kept: BoolArray) -> float:
        """Return the most that what is left costs: its channels stay in their order, no other weight is zero."""
        stays, whole = np.append(~self._unread(kept), True), None
        costs = self._costs(kept, stays)
        while not stays.all():
            whole = self._costs(kept, np.ones_like(stays)) if whole is None else whole
            slower = np.flatnonzero(costs.total > whole.total * (1 + SAME_TIME))
            if not len(slower):
                break
            stays = np.append(with_groups_of(self.job.layers, slower.tolist(), stays[:-1]), True)
            costs = self._costs(kept, stays)
        return float(costs.in_measure(self.job.budget.measure).sum())

    def exact(self, kept: BoolArray) -> float:
        """Return the cost of what is left in its last form, with the weights as they are."""
        original, target = self.job.original, self.job.target
        weights = {
            name: torch.where(stays, original.tensor(name).detach(), 0.0)
            for name, stays in self.units.supports(kept).items()
        }
        decision = unread_channels(original.with_tensors(weights), self.job)
        model = run_stage("remove", decision.model, groups=decision.options.groups, keep=decision.keep).model
        if self.job.granularity.gains_from_order:
            model = in_fewest_tiles(model, target).model
        return result_cost(self.job, model)

    def _costs(self, kept: BoolArray, stays: BoolArray) -> LayerCosts:
        """Return the cost of each layer, given the blocks and the channels that stay."""
        layers, target = self.job.layers, self.job.target
        counts = [blocks.live(kept[part], stays) for blocks, part in self._blocks]
        live = np.array([-1 if at < 0 else counts[at] for at in self._weight_of], dtype=np.int64) * self._times
        totals = [(np.append(0, np.cumsum(stays[units])), ends) for units, ends in self._channels]
        sizes = [np.diff(total[ends]) for total, ends in totals]
        return target.price(layers.workload(target, (sizes[0], sizes[1]), live_tiles=live))

    def _unread(self, kept: BoolArray) -> BoolArray:
        """Return the channels that no kept block reads, as ``unread_channels`` does: of each group one stays."""
        groups = self.job.layers.groups
        reads, alive = (np.zeros(groups.count, dtype=bool) for _ in range(2))
        for units, at, outputs in self._readers:
            inside = units != FROZEN
            reads[units[inside]] = True
            blocks, part = self._blocks[at] if at >= 0 else (None, slice(0))
            live = np.ones(len(units), dtype=bool) if blocks is None else blocks.alive(kept[part], outputs=outputs)
            alive[units[inside & live]] = True
        unread = reads & ~alive
        for group in groups.groups:
            if unread[group.units].all():
                unread[group.units[0]] = False
        return unread

    @cached_property
    def _number(self) -> dict[object, int]:
        """Return the place of each masked weight, by its storage."""
        model = self.job.original
        return {storage_key(model.tensor(weight.name)): place for place, weight in enumerate(self.units.weights)}

    @cached_property
    def _blocks(self) -> list[tuple[BlocksInTiles, slice]]:
        """Return each masked weight with its part of the units."""
        return [(self._in_tiles(weight.name, weight.layout), weight.part) for weight in self.units.weights]

    def _in_tiles(self, name: str, layout: object) -> BlocksInTiles:
        """Return a weight with the units of its channels."""
        assert isinstance(layout, Tiles)
        groups, model = self.job.layers.groups, self.job.original
        key = storage_key(model.tensor(name))
        axes = {axis.axis: axis.units for axis in groups.axes if storage_key(model.tensor(axis.name)) == key}
        none = (np.full(size, FROZEN, dtype=np.int64) for size in layout.shape[:2])
        first, second = (axes.get(axis, frozen) for axis, frozen in enumerate(none))
        outputs, inputs = (second, first) if layout.flipped else (first, second)
        return BlocksInTiles(layout, outputs, inputs, self.job.target)

    @cached_property
    def _readers(self) -> list[tuple[IntArray, int, bool]]:
        """Return the units of each axis that reads channels, the place of its weight or -1, and if it is of outputs."""
        return list(self._find_readers())

    def _find_readers(self) -> Iterator[tuple[IntArray, int, bool]]:
        """Yield the axes that read channels."""
        model = self.job.original
        for axis in self.job.layers.groups.axes:
            if axis.role == "reads":
                at = self._number.get(storage_key(model.tensor(axis.name)), -1)
                flipped = at >= 0 and self._blocks[at][0].layout.flipped
                yield axis.units, at, (axis.axis == 1) == flipped

    @cached_property
    def _weight_of(self) -> list[int]:
        """Return the place of each layer's masked weight, -1 where it has none."""
        model = self.job.original
        uses = [weight_use(model, row.node) for row in self.job.layers.rows]
        return [-1 if use is None else self._number.get(storage_key(model.tensor(use.name)), -1) for use in uses]

    @cached_property
    def _times(self) -> IntArray:
        """Return how often each layer runs through its tiles."""
        rows = zip(self.job.layers.rows, self._weight_of, strict=True)
        times = [row.shape.groups if row.shape.scales and at >= 0 else 1 for row, at in rows]
        return np.array(times, dtype=np.int64)

    @cached_property
    def _channels(self) -> list[tuple[IntArray, IntArray]]:
        """Return the units that all layers read, one after another, with the ends of each; likewise those written."""
        sides = ([getattr(row.shape, side) for row in self.job.layers.rows] for side in ("reads", "writes"))
        return [(np.concatenate(side), np.cumsum([0, *map(len, side)])) for side in sides]
