"""Elementwise operators: one operand passes its labels on, several tie theirs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from smartc.analysis.channel_rules.registry import rule
from smartc.analysis.channel_rules.weighted import link
from smartc.analysis.channels.labels import Labels, Site

ZERO_AT_ZERO = (
    "relu relu6 silu leaky_relu gelu hardswish tanh dropout feature_dropout neg contiguous alias detach "
    "to lift_fresh_copy lift_fresh clone _to_copy type_as elu selu celu mish hardshrink softshrink abs "
    "expm1 log1p sqrt square sin tan atan erf sign floor ceil round trunc nan_to_num zeros_like _conj "
    "detach_copy positive"
).split()
UNARY = (
    "hardtanh alpha_dropout feature_alpha_dropout sigmoid hardsigmoid log_sigmoid softplus threshold exp "
    "log log2 log10 rsqrt cos reciprocal isnan isinf logical_not bitwise_not ones_like full_like "
    "empty_like rand_like randn_like bernoulli fill rrelu"
).split()
JOINED = (
    "add sub rsub pow maximum minimum where eq ne gt lt ge le logical_and logical_or logical_xor "
    "bitwise_and bitwise_or remainder fmod floor_divide atan2 masked_fill addcmul addcdiv lerp clamp "
    "clamp_min clamp_max clip copysign hypot heaviside subtract mse_loss"
).split()


@rule(*ZERO_AT_ZERO)
def zero_at_zero(site: Site, x: Labels, *options: Any, **named: Any) -> Labels:
    """Pass labels on unchanged; a weight stays zero where it is."""
    return Labels(site.shape, x.factors, x.weight)


@rule(*UNARY)
def unary(site: Site, x: Labels, *options: Any, **named: Any) -> Labels:
    """Pass labels on unchanged."""
    return Labels(site.shape, x.factors)


@rule(*JOINED)
def joined(site: Site, *operands: Any, **options: Any) -> Labels:
    """Tie the labels of all operands, with broadcasting."""
    return site.join(*operands, *options.values())


@rule("mul", "multiply")
def product(site: Site, x: Any, y: Any) -> Labels:
    """Tie the labels of both operands, with broadcasting."""
    return site.product(x, y)


@rule("div", "divide", "true_divide")
def quotient(site: Site, x: Any, y: Any, **options: Any) -> Labels:
    """Tie the labels of both operands, with broadcasting; where the divisor is zero it is not zero."""
    return site.product(x, replace(y, weight=False) if isinstance(y, Labels) else y)


@rule("prelu", "_prelu_kernel")
def prelu(site: Site, x: Labels, weight: Labels) -> Labels:
    """Let one slope per channel follow axis 1; a single slope serves all."""
    if weight.shape != (1,):
        link(site, site.sole(x, 1), site.sole(weight, 0), "scales channels that all stay")
    return Labels(site.shape, x.factors)


@rule("glu")
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
