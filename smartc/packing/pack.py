"""A model whose channels lie in their last order, with the weights of it that lose their zero tiles."""

from __future__ import annotations

from dataclasses import dataclass

from smartc.ir.traced_model import TracedModel
from smartc.packing.channel_order import Ordered, in_fewest_tiles
from smartc.passes.pack_blocks import PackedBlocks, pack_blocks
from smartc.targets.target import Target


@dataclass(frozen=True, eq=False)
class PackedModel(Ordered):
    """A model in its last form; its weights hold their zeros.

    Attributes:
        blocks: The weights without their zero tiles; None where no blocks were removed.
    """

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
    return PackedModel(**vars(ordered), blocks=packed)
