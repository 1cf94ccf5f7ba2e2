"""Models with random zero tiles in their weights."""

from __future__ import annotations

import torch

from smartc.analysis.weight_use import weight_use
from smartc.ir.traced_model import TracedModel
from smartc.masks.packed_weight import TileOrder


def with_zero_tiles(model: TracedModel, share: float, tile: tuple[int, int], seed: int = 0) -> TracedModel:
    """Return a model in which a share of the tiles of every weight on a MAC array is zero.

    Args:
        model: Is left as it is.
        share: 0 to 1; each tile is zero with this probability.
        tile: Output and input channels, at each kernel position.
        seed: Of the choice.
    """
    generator = torch.Generator().manual_seed(seed)
    masked = {}
    for node in model.calls():
        use = weight_use(model, node)
        if use is not None:
            weight = model.tensor(use.name).detach()
            order = TileOrder(tuple(weight.shape), tile, groups=use.groups, transposed=use.transposed)
            live = torch.rand(order.blocks, generator=generator) >= share
            masked[use.name] = order.joined(order.cut(weight) * live[:, :, None, None, None]) + 0.0  # no -0
    return model.with_tensors(masked)
