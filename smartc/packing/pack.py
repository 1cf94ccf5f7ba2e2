"""A model whose channels lie in their last order, with the weights of it that lose their zero tiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from smartc.analysis.channels.labels import IntArray
from smartc.ir.traced_model import Remark, TracedModel
from smartc.packing.channel_order import Ordered, in_fewest_tiles
from smartc.passes.pack_blocks import PackedBlocks, pack_blocks
from smartc.targets.target import Target


@dataclass(frozen=True, eq=False)
class PackedModel:
    """A model in its last form.

    Attributes:
        model: The model; its weights hold their zeros.
        moved: For each tensor the axes whose channels changed places, as ``Ordered`` has it.
        remarks: What each group gained by another order.
        blocks: The weights without their zero tiles; None where no blocks were removed.
    """

    model: TracedModel
    moved: Mapping[str, Mapping[int, IntArray]]
    remarks: tuple[Remark, ...] = ()
    blocks: PackedBlocks | None = None


def pack_model(model: TracedModel, target: Target, *, blocks: bool, reorder: bool) -> PackedModel:
    """Return a model packed for a target.

    Args:
        model: The model without what was removed.
        target: Whose tiles are packed.
        blocks: Whether blocks were removed; else nothing is packed.
        reorder: Whether channels may change places, so that the blocks that are left fill fewer tiles.
    """
    ordered = in_fewest_tiles(model, target) if blocks and reorder else Ordered(model)
    packed = pack_blocks(ordered.model, target) if blocks else None
    return PackedModel(ordered.model, ordered.moved, ordered.remarks, packed)
