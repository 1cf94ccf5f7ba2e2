"""Matrix products, einsum and attention: what is summed over stays, unless a parameter reads it."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from smartc.analysis.channel_rules.registry import rule
from smartc.analysis.channels.labels import Declined, Factor, Labels, Site

_SUMS = "multiplies them with another activation and sums over them"


@rule("product")
def matmul(site: Site, x: Labels, y: Labels) -> Labels:
    """Contract the last axis of ``x`` with the last but one of ``y``."""
    if len(x.shape) < 2 or len(y.shape) < 2:
        raise Declined("takes a vector")
    batch = string.ascii_lowercase[: max(len(x.shape), len(y.shape)) - 2]
    left = batch[len(batch) - len(x.shape) + 2 :] + "xz"
    right = batch[len(batch) - len(y.shape) + 2 :] + "zy"
    return contract(site, ((left, x), (right, y)), batch + "xy")


@rule("added_product")
def add_matmul(site: Site, bias: Labels, x: Labels, y: Labels, **options: Any) -> Labels:
    """Contract and add."""
    return site.join(matmul(site, x, y), bias)


@rule("einsum")
def einsum(site: Site, equation: str, operands: Sequence[Labels], **options: Any) -> Labels:
    """Contract one or two operands as the equation says."""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    letters = inputs.split(",")
    if "." in equation or not arrow or len(letters) > 2 or any(len(set(t)) < len(t) for t in letters):
        raise Declined("is an einsum of a form without a rule")
    return contract(site, tuple(zip(letters, operands, strict=True)), output)


@rule("attention")
def attention(
    site: Site, q: Labels, k: Labels, v: Labels, mask: Labels | None = None, *rest: Any, **options: Any
) -> Labels:
    """Keep what is summed over; a head lives or dies whole, with its part of the mask.

    Shapes: query (..., L, E), key (..., S, E), value (..., S, V), mask broadcast to (..., L, S); output (..., L, V).
    """
    if options.get("enable_gqa"):
        k, v = (_shared_among_heads(x, q.shape[-3]) for x in (k, v))
    batch = string.ascii_lowercase[: site.rank - 2]
    scores = Labels((*site.shape[:-1], k.shape[-2]))
    inner = Site(site.node, scores.shape, site.book)
    scores = contract(inner, ((batch + "xz", q), (batch + "yz", k)), batch + "xy")
    scores = inner.join(scores, options.get("attn_mask", mask))
    return contract(site, ((batch + "xy", scores), (batch + "yz", v)), batch + "xz")


def _shared_among_heads(x: Labels, heads: int) -> Labels:
    """Return the labels of keys or values, each head of which serves as many query heads, side by side."""
    axis, times = len(x.shape) - 3, heads // x.shape[-3]
    factors = [
        Factor(f.axes, np.repeat(f.labels, times, axis=f.axes.index(axis))) if axis in f.axes else f for f in x.factors
    ]
    return Labels((*x.shape[:axis], heads, *x.shape[axis + 1 :]), tuple(factors))


def contract(site: Site, operands: Sequence[tuple[str, Labels]], output: str) -> Labels:
    """Tie what operands share, let parameters read what is summed over, and return the output's labels."""
    terms = [
        _placed(_after_sum(site, operands, index, output), operands[index][0], output) for index in range(len(operands))
    ]
    made = all(labels.weight for _, labels in operands)
    for letters, labels in operands:
        own = [labels.along(letters.index(letter)) for letter in letters if letter in output]
        site.book.owned += [f.labels for f in own if labels.weight and not made and f is not None]
    return replace(site.join(*terms), weight=made)


def _after_sum(site: Site, operands: Sequence[tuple[str, Labels]], index: int, output: str) -> Labels:
    """Settle the axes of one operand that the output lacks."""
    letters, labels = operands[index]
    others = [(text, other) for place, (text, other) in enumerate(operands) if place != index]
    for axis, letter in enumerate(letters):
        if letter in output:
            continue
        partner = next(((text, other) for text, other in others if letter in text), None)
        if partner and labels.weight != partner[1].weight:
            mine, theirs = site.sole(labels, axis), site.sole(partner[1], partner[0].index(letter))
            if mine is not None and theirs is not None:
                site.tie(mine, theirs)
                site.book.read += [mine] if labels.weight else []
            elif mine is not None:
                site.freeze(mine, "reads an input all of whose channels stay")
        else:
            labels = site.uniform(labels, [axis], _SUMS)
    return labels


def _placed(labels: Labels, letters: str, output: str) -> Labels:
    """Return an operand's labels on the output's axes; those it lacks have size one."""
    sizes = dict(zip(letters, labels.shape, strict=True))
    kept = [f for f in labels.factors if all(letters[axis] in output for axis in f.axes)]
    renamed = Labels(labels.shape, tuple(kept)).renamed(
        {axis: output.index(letter) for axis, letter in enumerate(letters) if letter in output},
        [sizes.get(letter, 1) for letter in output],
    )
    return Labels(renamed.shape, tuple(Factor(f.axes, f.labels) for f in renamed.factors))
