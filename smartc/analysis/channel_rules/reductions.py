"""Reductions and softmax: the axes they run over keep their channels, the others pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from smartc.analysis.channel_rules.registry import rule
from smartc.analysis.channel_rules.written_norms import normalised_by
from smartc.analysis.channels.labels import Factor, Labels, Site
from smartc.ir.traced_model import operator_name

_MIXES = "mixes all channels"


@rule("average")
def average(site: Site, x: Labels, dim: Any = None, keepdim: bool = False, **options: Any) -> Labels:
    """Reduce over the given axes, or over all; a weight stays zero where it is."""
    return replace(reduced(site, x, dim, keepdim, averages=operator_name(site.node.target) == "mean"), weight=x.weight)


@rule("reduction")
def reduction(site: Site, x: Labels, dim: Any = None, keepdim: bool = False, **options: Any) -> Labels:
    """Reduce over the given axes, or over all."""
    return reduced(site, x, dim, keepdim or options.get("keepdims", False))


@rule("extremum")
def extremum(site: Site, x: Labels, dim: Any = None, keepdim: bool = False) -> Any:
    """Reduce over an axis (values and indices), over all, or take the larger of two tensors."""
    if isinstance(dim, Labels):
        return site.join(x, dim)
    labels = reduced(site, x, dim, keepdim)
    return labels if dim is None else (labels, labels)


@rule("spread")
def spread_of(site: Site, x: Labels, dim: Any = None, *options: Any, **named: Any) -> Labels:
    """Reduce over the given axes, or over all."""
    return reduced(site, x, None if isinstance(dim, bool) else dim, _keeps(x, site), averages=True)


@rule("moments")
def moments(site: Site, x: Labels, dim: Any = None, *options: Any, **named: Any) -> Any:
    """Reduce over the given axes to two tensors."""
    labels = reduced(site, x, None if isinstance(dim, bool) else dim, _keeps(x, site), averages=True)
    return labels, labels


@rule("vector_norm")
def vector_norm(site: Site, x: Labels, order: Any = 2, dim: Any = None, *options: Any, **named: Any) -> Labels:
    """Reduce over the given axes, or over all."""
    return reduced(site, x, dim, _keeps(x, site))


@rule("along")
def along(site: Site, x: Labels, dim: int, *options: Any, **named: Any) -> Labels:
    """Keep every channel of the axis it runs along."""
    return Labels(site.shape, site.uniform(x, [dim], _MIXES).factors)


@rule("ordering")
def ordering(site: Site, x: Labels, *options: Any, **named: Any) -> Any:
    """Keep every channel of the axis it sorts, the last by default."""
    given = [option for option in options if isinstance(option, int) and not isinstance(option, bool)]
    where = 1 if site.node.name.startswith("topk") else 0
    dim = named.get("dim", given[where] if len(given) > where else -1)
    labels = Labels(site.shape, site.uniform(x, [dim], _MIXES).factors)
    return labels, labels


def reduced(site: Site, x: Labels, dim: int | Sequence[int] | None, keepdim: bool, averages: bool = False) -> Labels:
    """Return the labels left after reducing the given axes (all for None or an empty list).

    A reduction that averages may be part of a norm that is written out, and take fewer channels where that is allowed.
    """
    rank = len(x.shape)
    dims = [dim] if isinstance(dim, int) else list(dim or range(rank))
    gone = {axis % rank for axis in dims} if rank else set()
    lossy = site.open_factor(x, sorted(gone)) if averages else None
    outputs = () if lossy is None else normalised_by(site.node)
    if lossy is not None and outputs:
        site.note_statistics(lossy.axes[0], lossy.labels, outputs)
        x = replace(x, factors=tuple(factor for factor in x.factors if factor is not lossy))
    left = site.uniform(x, sorted(gone), _MIXES) if gone else x
    if keepdim:
        return Labels(site.shape, left.factors)
    place = {axis: index for index, axis in enumerate(a for a in range(rank) if a not in gone)}
    factors = tuple(Factor(tuple(place[a] for a in f.axes), f.labels) for f in left.factors)
    return Labels(site.shape, factors)


def _keeps(x: Labels, site: Site) -> bool:
    """Return whether a reduction kept its axes, from the shapes alone."""
    return len(site.shape) == len(x.shape)
