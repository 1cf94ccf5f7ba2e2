"""Put the channels that are left in an order in which their blocks fill the fewest tiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from smartc.analysis.analyse import analysed
from smartc.analysis.channels.labels import IntArray
from smartc.ir.traced_model import Remark, TracedModel
from smartc.packing.find_channel_order import find_channel_order
from smartc.passes.permute_channels import axis_orders
from smartc.passes.stages import run_stage
from smartc.targets.target import Target


@dataclass(frozen=True, eq=False)
class Ordered:
    """A model with its channels in another order, or as it was.

    Attributes:
        model: The model; it computes what it did.
        moved: For each tensor the axes that changed, each with the old index that came to each place.
        remarks: What each group gained.
    """

    model: TracedModel
    moved: Mapping[str, Mapping[int, IntArray]] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()


def in_fewest_tiles(model: TracedModel, target: Target) -> Ordered:
    """Return a model with its channels in an order of fewer live tiles, where a search finds one."""
    groups = analysed(model).groups
    found = find_channel_order(model, groups, target)
    if found.after == found.before:
        return Ordered(model)
    moved = axis_orders(groups, found.order)
    names = {other: axes for name, axes in moved.items() for other in model.names_of(name)}
    remarks = (
        Remark(remark.where, f"its channels have another order: {remark.text}", True)
        for remark in found.remarks
        if remark.changed
    )
    return Ordered(run_stage("pack", model, groups=groups, order=found.order).model, names, tuple(remarks))
