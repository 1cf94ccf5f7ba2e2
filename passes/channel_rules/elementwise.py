"""Elementwise operators: one operand passes its labels on, several tie theirs."""

from __future__ import annotations

from typing import Any

from smartc.passes.channel_rules.registry import rule
from smartc.passes.channel_rules.weighted import link
from smartc.passes.labels import Labels, Site

UNARY = (
    "relu relu6 silu leaky_relu gelu hardswish hardtanh tanh dropout feature_dropout alpha_dropout "
    "feature_alpha_dropout neg contiguous alias detach to lift_fresh_copy lift_fresh clone _to_copy type_as "
    "sigmoid hardsigmoid log_sigmoid elu selu celu mish softplus softsign hardshrink softshrink threshold "
    "abs exp expm1 log log1p log2 log10 sqrt rsqrt square sin cos tan atan erf sign floor ceil round trunc "
    "reciprocal isnan isinf logical_not bitwise_not nan_to_num zeros_like ones_like full_like empty_like "
    "rand_like randn_like bernoulli _conj float double half detach_copy fill positive rrelu"
).split()
JOINED = (
    "add sub mul div rsub pow maximum minimum where eq ne gt lt ge le logical_and logical_or logical_xor "
    "bitwise_and bitwise_or remainder fmod floor_divide true_divide atan2 masked_fill addcmul addcdiv lerp "
    "clamp clamp_min clamp_max clip copysign hypot heaviside multiply subtract divide mse_loss"
).split()


@rule(*UNARY)
def unary(site: Site, x: Labels | None = None, *options: Any, **named: Any) -> Labels:
    """Pass labels on unchanged."""
    return Labels(site.shape, x.factors if isinstance(x, Labels) else ())


@rule(*JOINED)
def joined(site: Site, *operands: Any, **options: Any) -> Labels:
    """Tie the labels of all operands, with broadcasting."""
    return site.join(*operands, *options.values())


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
