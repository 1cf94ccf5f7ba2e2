"""The analyse stage: channels and layers of a captured model in one call."""

from __future__ import annotations

from smartc.analysis.find_channel_groups import find_channel_groups
from smartc.analysis.find_layers import Layers, find_layers
from smartc.ir.traced_model import TracedModel


def analysed(model: TracedModel, approximate: bool = False) -> Layers:
    """Return a model's layers with its channel groups, for which norms may change where that is allowed."""
    return find_layers(model, find_channel_groups(model, approximate))


def described(layers: Layers) -> list[str]:
    """Return a line on each channel group, each frozen axis and each layer."""
    groups = layers.groups
    lines = [f"group {group.name}: {len(group)} channels, {group.weight} coupled" for group in groups.groups]
    lines += [f"frozen {name}, axis {axis}: {reason}" for (name, axis), reason in groups.frozen.items()]
    return [*lines, *(f"layer {row.name}: {row.op}" for row in layers.rows)]
