"""Convolutions, linear layers and embeddings: their weights own and read channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from smartc.analysis.channel_rules.registry import rule
from smartc.analysis.channels.labels import Factor, IntArray, Labels, Site

STAYS = "reads an input all of whose channels stay"
_MADE = "multiplies them by a weight that is computed from other tensors in a way that keeps all of its channels"
_COMPUTED = "multiplies them by a computed weight, which need not be zero where its parameters are"


@rule("convolution")
def convolution(
    site: Site, x: Labels, weight: Labels, bias: Labels | None = None, *options: Any, groups: int = 1
) -> Labels:
    """Own new output channels and read the input's.

    Weight: (out, in // groups, *kernel).  With groups, index j of the input axis is shared by
    every group, so channel j of each group is one unit; likewise for the output.  With one input
    channel per group (depthwise) a whole group is a unit, and the weight follows it.
    """
    groups = options[3] if len(options) > 3 else groups
    x, channels = _input_channels(site, x, weight)
    out, into = site.sole(weight, 0), site.sole(weight, 1)
    if groups == 1:
        _link_input(site, channels, into)
        read(site, weight, into)
        site.book.owned += [out] if out is not None else []
    elif weight.shape[1] == 1:
        _follow_groups(site, channels, out, groups)
    else:
        _balance(site, channels, into, out, groups)
        read(site, weight, into)
    _tie_bias(site, bias, out)
    return _output(site, x, 1 - len(weight.shape), out)


@rule("transposed_convolution")
def transposed_convolution(
    site: Site, x: Labels, weight: Labels, bias: Labels | None = None, *options: Any, groups: int = 1
) -> Labels:
    """Read the input by weight axis 0 and own output channels by axis 1.

    Weight: (in, out // groups, *kernel).  Index j of the output axis is shared by every group.
    With one input channel per group, a whole group is a unit and axis 1 stays.
    """
    groups = options[3] if len(options) > 3 else groups
    x, channels = _input_channels(site, x, weight)
    into, own = site.sole(weight, 0), site.sole(weight, 1)
    _link_input(site, channels, into)
    if groups > 1 and weight.shape[0] == groups:
        if own is not None:
            site.freeze(own, "gives several channels for each one it takes")
        out = None if into is None else np.repeat(into, weight.shape[1])
    else:
        read(site, weight, into)
        site.book.owned += [own] if own is not None else []
        if groups > 1 and into is not None:
            rows = into.reshape(groups, -1)
            site.tie(rows[:1], rows)
        out = None if own is None else np.tile(own, groups)
    _tie_bias(site, bias, out)
    return _output(site, x, 1 - len(weight.shape), out)


@rule("linear")
def linear(site: Site, x: Labels, weight: Labels, bias: Labels | None = None) -> Labels:
    """Own new channels on the last axis and read the input's. Weight: (out, in)."""
    out, into = site.sole(weight, 0), site.sole(weight, 1)
    _link_input(site, site.sole(x, -1), into)
    read(site, weight, into)
    site.book.owned += [out] if out is not None else []
    _tie_bias(site, bias, out)
    return _output(site, x, -1, out)


@rule("embedding")
def embedding(site: Site, weight: Labels, indices: Labels, *options: Any) -> Labels:
    """Own new channels on the last axis. Weight: (entries, out)."""
    site.freeze_all(indices, "takes them for indices")
    site.uniform(weight, [0], "looks its rows up by number")
    out = site.sole(weight, 1)
    site.book.owned += [out] if out is not None else []
    return _output(site, indices, -1, out)


def link(site: Site, left: IntArray | None, right: IntArray | None, reason: str) -> None:
    """Tie two arrays; where only one is labelled, freeze it for the reason."""
    if left is not None and right is not None:
        site.tie(left, right)
    elif left is not None or right is not None:
        site.freeze(left if right is None else right, reason)  # type: ignore[arg-type]


def _link_input(site: Site, channels: IntArray | None, into: IntArray | None) -> None:
    """Tie an input's channels to the axis of the weight that reads them; where only one is labelled, freeze it.

    A stored weight always has labels.
    """
    link(site, channels, into, _MADE if into is None else STAYS)


def read(site: Site, weight: Labels, into: IntArray | None) -> None:
    """Read channels by an axis of a weight."""
    if into is not None and weight.weight:
        site.book.read.append(into)
    elif into is not None:
        site.freeze(into, _COMPUTED)


def _input_channels(site: Site, x: Labels, weight: Labels) -> tuple[Labels, IntArray | None]:
    """Return the labels of a convolution's input, none of them on space, and those of its channels."""
    space = len(weight.shape) - 2
    slides = "slides over an axis that carries channels"
    x = site.uniform(x, range(len(x.shape) - space, len(x.shape)), slides)
    site.uniform(weight, range(2, len(weight.shape)), slides)
    return x, site.sole(x, -1 - space)


def _follow_groups(site: Site, channels: IntArray | None, out: IntArray | None, groups: int) -> None:
    """Tie each group's outputs to its one input channel."""
    if out is not None and channels is not None:
        site.tie(out.reshape(groups, -1), channels[:, None])
    else:
        link(site, channels, out, STAYS)


def _balance(site: Site, channels: IntArray | None, into: IntArray | None, out: IntArray | None, groups: int) -> None:
    """Tie index j of every group's input and output channels."""
    if channels is not None and into is not None:
        site.tie(channels.reshape(groups, -1), into[None, :])
    else:
        _link_input(site, channels, into)
    if out is not None:
        rows = out.reshape(groups, -1)
        site.tie(rows[:1], rows)
        site.book.owned.append(out)


def _tie_bias(site: Site, bias: Labels | None, out: IntArray | None) -> None:
    """Let a bias follow the output channels."""
    if bias is not None:
        link(site, site.sole(bias, 0), out, "adds to channels that all stay")


def _output(site: Site, x: Labels, axis: int, out: IntArray | None) -> Labels:
    """Return the output's labels: new channels on one axis, and the input's on those before it."""
    axis %= site.rank
    others = tuple(factor for factor in x.factors if max(factor.axes) < axis)
    return Labels(site.shape, (*others, *(() if out is None else (Factor((axis,), out),))))
