"""Normalisations: per channel they follow, across channels they keep what their statistics need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx

from smartc.analysis.channel_rules.registry import rule
from smartc.analysis.channel_rules.weighted import link
from smartc.analysis.channels.labels import Labels, Site
from smartc.ir.traced_model import operator_of

_LENGTH = "divides its weight by a length that other channels have a part in"
_OUTPUT_AXES = {"convolution": 0, "linear": 0, "transposed_convolution": 1}
_STATISTICS = "normalises over all channels, whose statistics would change"


@rule("batch_norm")
def batch_norm(site: Site, x: Labels, *tensors: Any, **options: Any) -> Labels:
    """Let scale, shift and statistics follow axis 1."""
    if len(tensors) > 4 and tensors[4] is True:
        x = site.uniform(x, [axis for axis in range(len(x.shape)) if axis != 1], _STATISTICS)
    _follow(site, x, tensors[:4])
    return Labels(site.shape, x.factors)


@rule("instance_norm")
def instance_norm(site: Site, x: Labels, *tensors: Any, **options: Any) -> Labels:
    """Let scale, shift and statistics follow axis 1; each channel has statistics of its own."""
    x = site.uniform(x, range(2, len(x.shape)), _STATISTICS)
    _follow(site, x, tensors[:4])
    return Labels(site.shape, x.factors)


@rule("group_norm")
def group_norm(site: Site, x: Labels, groups: int, *tensors: Any) -> Labels:
    """Make each group one unit: removing it whole leaves the statistics of the others alone.

    Where approximations are allowed, every group loses as many channels: index j of each is one unit.
    """
    x = site.uniform(x, range(2, len(x.shape)), _STATISTICS)
    channels = site.sole(x, 1)
    if channels is not None:
        rows = channels.reshape(groups, -1)
        if site.book.approximate and rows.shape[1] > 1:
            site.tie(rows[:1], rows)
            site.note_statistics(1, channels, (site.node,))
        else:
            site.tie(rows[:, :1], rows)
            if groups == 1:
                site.freeze(channels, _STATISTICS)
    _follow(site, x, tensors[:2])
    return Labels(site.shape, x.factors)


@rule("layer_norm")
def layer_norm(site: Site, x: Labels, normalized_shape: Sequence[int], *tensors: Any) -> Labels:
    """Keep every channel of the normalised axes, unless approximations are allowed: then scale and shift follow."""
    first = len(x.shape) - len(normalized_shape)
    normalised = range(first, len(x.shape))
    lossy = site.open_factor(x, normalised)
    if lossy is None:
        x = site.uniform(x, normalised, _STATISTICS)
        site.freeze_all(tensors, _STATISTICS)
        return Labels(site.shape, x.factors)
    (axis,) = lossy.axes
    site.note_statistics(axis, lossy.labels, (site.node,))
    for tensor in tensors:
        if isinstance(tensor, Labels):
            site.uniform(tensor, [other - first for other in normalised if other != axis], _STATISTICS)
            link(site, lossy.labels, site.sole(tensor, axis - first), "scales channels that all stay")
    others = Labels(x.shape, tuple(factor for factor in x.factors if factor is not lossy))
    return Labels(site.shape, (*site.uniform(others, normalised, _STATISTICS).factors, lossy))


@rule("weight_norm")
def weight_norm(site: Site, direction: Labels, length: Labels, dim: int = 0) -> Labels:
    """Let the lengths follow the axis they belong to.

    Zeroed input slices add nothing to a norm, so removing them leaves it as it is.  A norm over outputs, or over all
    of the weight (a ``dim`` of -1 says that), would change with them, and that of a zeroed slice is zero and divides.
    """
    if any(_output_axis(user) != dim for user in site.node.users):
        site.freeze_all((direction, length), _LENGTH)
    else:
        link(site, site.sole(direction, dim), site.sole(length, dim), "scales channels that all stay")
    return Labels(site.shape, direction.factors, weight=True)


def _output_axis(reader: fx.Node) -> int | None:
    """Return the axis of a layer's weight that makes its channels, None where the reader is no such layer."""
    return _OUTPUT_AXES.get(operator_of(reader).rule or "")


def _follow(site: Site, x: Labels, tensors: Sequence[Any]) -> None:
    """Tie one-dimensional parameters to the channels on axis 1."""
    channels = site.sole(x, 1)
    for tensor in tensors:
        if isinstance(tensor, Labels):
            link(site, channels, site.sole(tensor, 0), "scales channels that all stay")
