"""Count the live tiles of every layer, as the latency model takes them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from smartc.analysis.channels.labels import IntArray
from smartc.analysis.find_layers import Layers
from smartc.analysis.live_tiles import live_tiles
from smartc.analysis.weight_use import WeightUse, weight_use
from smartc.ir.traced_model import TracedModel
from smartc.targets.latency import LayerCosts
from smartc.targets.target import Target
from smartc.targets.workload import Flags, OpKind


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
    work = layers.workload(target, layers.full_sizes, live_tiles=live)
    if target.sparsity.nm != "none":
        work = replace(work, patterned=patterned_layers(model, layers, target.sparsity.nm))
    return target.price(work)


def patterned_layers(model: TracedModel, layers: Layers, pattern: str) -> Flags:
    """Say of each layer whether its weight keeps at most n of every m neighbours along the input channels."""
    kept, group = (int(count) for count in pattern.split(":"))
    uses = [weight_use(model, row.node) if row.shape.kind == OpKind.MATRIX else None for row in layers.rows]
    return np.array([use is not None and _has_pattern(model, use, kept, group) for use in uses], dtype=np.bool_)


def _has_pattern(model: TracedModel, use: WeightUse, kept: int, group: int) -> bool:
    """Say whether a weight has an n:m pattern; what is left beside whole groups may be anything."""
    channels = model.tensor(use.name).detach().movedim(0 if use.transposed else 1, 0)
    whole = len(channels) // group
    nonzero = (channels[: whole * group] != 0).reshape(whole, group, -1).sum(1)
    return whole > 0 and bool((nonzero <= kept).all())
