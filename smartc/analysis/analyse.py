"""All of the analysis in one call."""

from __future__ import annotations

from smartc.analysis.find_channel_groups import find_channel_groups
from smartc.analysis.find_layers import Layers, find_layers
from smartc.ir.traced_model import TracedModel


def analysed(model: TracedModel) -> Layers:
    """Return a model's layers with its channel groups."""
    return find_layers(model, find_channel_groups(model))
