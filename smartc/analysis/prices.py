"""Count the live tiles of every layer, as the latency model takes them."""

from __future__ import annotations

import numpy as np

from smartc.analysis.channels.labels import IntArray
from smartc.analysis.find_layers import Layers
from smartc.analysis.live_tiles import live_tiles
from smartc.analysis.weight_use import weight_use
from smartc.ir.traced_model import TracedModel
from smartc.targets.latency import LayerCosts
from smartc.targets.target import Target
from smartc.targets.workload import OpKind


def live_by_layer(model: TracedModel, layers: Layers, target: Target) -> IntArray:
    """Return how many tiles of each layer's weight are not zero, -1 where the layer has no tiles of a weight."""
    live = np.full(len(layers.rows), -1, dtype=np.int64)
    counted: dict[str, int] = {}
    for place, row in enumerate(layers.rows):
        use = weight_use(model, row.node) if row.shape.kind == OpKind.MATRIX else None
        if use is None:
            continue
        if use.name not in counted:
            weight = model.tensor(use.name)
            counted[use.name] = live_tiles(weight, target, groups=use.groups, transposed=use.transposed)
        live[place] = counted[use.name]
    return live


def price_layers(model: TracedModel, layers: Layers, target: Target) -> LayerCosts:
    """Return what each layer costs on a target with the weights as they are, zero tiles and all."""
    live = live_by_layer(model, layers, target)
    return target.price(layers.workload(target, layers.full_sizes, live_tiles=live))
