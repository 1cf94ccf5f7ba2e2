"""Tensors made inside the graph: each written size may follow the channels it meets."""

from __future__ import annotations

from typing import Any

from smartc.analysis.channel_rules.registry import rule
from smartc.analysis.channels.labels import Labels, Site
from smartc.ir.traced_model import value_of


@rule("fill")
def filled(site: Site, sizes: Any, *options: Any, **named: Any) -> Labels:
    """Give every axis of a written size labels of its own."""
    return _written(site, sizes)


@rule("new_fill")
def new_filled(site: Site, x: Labels, sizes: Any, *options: Any, **named: Any) -> Labels:
    """Give every axis of a written size labels of its own; nothing else of the tensor is used."""
    return _written(site, sizes)


@rule("number")
def number(site: Site, *arguments: Any, **named: Any) -> Labels:
    """Return a tensor or number without channels."""
    return Labels(site.shape)


def _written(site: Site, sizes: Any) -> Labels:
    """Label the axes whose size is an integer."""
    computed = value_of(site.node).computed
    return site.fresh(site.shape, [axis for axis in range(len(sizes)) if axis not in computed])
