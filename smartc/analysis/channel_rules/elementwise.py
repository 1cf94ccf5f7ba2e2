"""Elementwise operators: one operand passes its labels on, several tie theirs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from smartc.analysis.channel_rules.registry import rule
from smartc.analysis.channel_rules.weighted import link
from smartc.analysis.channels.labels import Labels, Site
from smartc.ir.traced_model import operator_of


@rule("unary")
def unary(site: Site, x: Labels, *options: Any, **named: Any) -> Labels:
    """Pass labels on unchanged; a weight stays zero where it is, if the operator is zero at zero."""
    return Labels(site.shape, x.factors, x.weight and operator_of(site.node).zero_at_zero)


@rule("joined")
def joined(site: Site, *operands: Any, **options: Any) -> Labels:
    """Tie the labels of all operands, with broadcasting."""
    return site.join(*operands, *options.values())


@rule("bounding")
def bounded(site: Site, x: Labels, low: Any = None, high: Any = None, **named: Any) -> Labels:
    """Tie the labels of all operands; a weight stays zero where it is if zero lies between bounds that are numbers."""
    low = named.get("min", named.get("min_val", low))
    high = named.get("max", named.get("max_val", high))
    if isinstance(low, Labels) or isinstance(high, Labels):
        return site.join(x, low, high)
    holds_zero = (low is None or low <= 0) and (high is None or high >= 0)
    return Labels(site.shape, x.factors, x.weight and holds_zero)


@rule("bounding_below")
def bounded_below(site: Site, x: Labels, low: Any) -> Labels:
    """Tie the labels of both operands; a weight stays zero where it is if the bound is a number up to zero."""
    return bounded(site, x, low)


@rule("bounding_above")
def bounded_above(site: Site, x: Labels, high: Any) -> Labels:
    """Tie the labels of both operands; a weight stays zero where it is if the bound is a number from zero on."""
    return bounded(site, x, None, high)


@rule("multiplication")
def product(site: Site, x: Any, y: Any) -> Labels:
    """Tie the labels of both operands, with broadcasting."""
    return site.product(x, y)


@rule("division")
def quotient(site: Site, x: Any, y: Any, **options: Any) -> Labels:
    """Tie the labels of both operands, with broadcasting; where the divisor is zero it is not zero."""
    return site.product(x, replace(y, weight=False) if isinstance(y, Labels) else y)


@rule("prelu")
def prelu(site: Site, x: Labels, weight: Labels) -> Labels:
    """Let one slope per channel follow axis 1; a single slope serves all."""
    if weight.shape != (1,):
        link(site, site.sole(x, 1), site.sole(weight, 0), "scales channels that all stay")
    return Labels(site.shape, x.factors)


@rule("gating")
def glu(site: Site, x: Labels, dim: int = -1) -> Labels:
    """Tie the two halves of an axis: the second gates the first."""
    factor = x.along(dim)
    if factor is None:
        return Labels(site.shape, x.factors)
    place = factor.axes.index(dim % len(x.shape))
    half = factor.labels.shape[place] // 2
    first = factor.labels.take(range(half), axis=place)
    site.tie(first, factor.labels.take(range(half, 2 * half), axis=place))
    others = tuple(f for f in x.factors if f is not factor)
    return Labels(site.shape, (*others, type(factor)(factor.axes, first)))


@rule("expand_as")
def expand_as(site: Site, x: Labels, other: Labels) -> Labels:
    """Take the labels of the tensor whose shape it takes."""
    return site.join(x, other)
