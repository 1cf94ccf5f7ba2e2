"""Convolutions, linear layers and embeddings: their weights own and read channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from smartc.passes.channel_rules.registry import rule
from smartc.passes.labels import Factor, IntArray, Labels, Site

_STAYS = "reads an input all of whose channels stay"


@rule("conv1d", "conv2d", "conv3d")
def convolution(
    site: Site, x: Labels, weight: Labels, bias: Labels | None = None, *options: Any, groups: int = 1
) -> Labels:
    """Own new output channels and read the input's.

    Weight: (out, in // groups, *kernel).  With groups, index j of the input axis is shared by
    every group, so channel j of each group is one unit; likewise for the output.  With one input
    channel per group (depthwise) a whole group is a unit, and the weight follows it.
    """
    groups = options[3] if len(options) > 3 else groups
    channels, axis = _input_channels(site, x, weight)
    out, into = site.sole(weight, 0), site.sole(weight, 1)
    if groups == 1:
        link(site, channels, into, _STAYS)
        site.book.read += [into] if into is not None else []
        site.book.owned += [out] if out is not None else []
    elif weight.shape[1] == 1:
        _follow_groups(site, channels, out, groups)
    else:
        _balance(site, channels, into, out, groups)
    _tie_bias(site, bias, out)
    return _output(site, axis, out)


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def transposed_convolution(
    site: Site, x: Labels, weight: Labels, bias: Labels | None = None, *options: Any, groups: int = 1
) -> Labels:
    """Read the input by weight axis 0 and own output channels by axis 1.

    Weight: (in, out // groups, *kernel).  Index j of the output axis is shared by every group.
    With one input channel per group, a whole group is a unit and axis 1 stays.
    """
    groups = options[3] if len(options) > 3 else groups
    channels, axis = _input_channels(site, x, weight)
    into, own = site.sole(weight, 0), site.sole(weight, 1)
    link(site, channels, into, _STAYS)
    if groups > 1 and weight.shape[0] == groups:
        if own is not None:
            site.freeze(own, "gives several channels for each one it takes")
        out = None if into is None else np.repeat(into, weight.shape[1])
    else:
        site.book.read += [into] if into is not None else []
        site.book.owned += [own] if own is not None else []
        if groups > 1 and into is not None:
            rows = into.reshape(groups, -1)
            site.tie(rows[:1], rows)
        out = _tiled(site, own, groups)
    _tie_bias(site, bias, out)
    return _output(site, axis, out)


@rule("linear")
def linear(site: Site, x: Labels, weight: Labels, bias: Labels | None = None) -> Labels:
    """Own new channels on the last axis and read the input's. Weight: (out, in)."""
    out, into = site.sole(weight, 0), site.sole(weight, 1)
    link(site, site.sole(x, -1), into, _STAYS)
    site.book.read += [into] if into is not None else []
    site.book.owned += [out] if out is not None else []
    _tie_bias(site, bias, out)
    last = len(x.shape) - 1
    others = tuple(factor for factor in x.factors if last not in factor.axes)
    return Labels(site.shape, (*others, *_output(site, last, out).factors))


@rule("embedding")
def embedding(site: Site, weight: Labels, indices: Labels, *options: Any) -> Labels:
    """Own new channels on the last axis. Weight: (entries, out)."""
    site.freeze_all(indices, "takes them for indices")
    site.uniform(weight, [0], "looks its rows up by number")
    out = site.sole(weight, 1)
    site.book.owned += [out] if out is not None else []
    return _output(site, site.rank - 1, out)


def link(site: Site, left: IntArray | None, right: IntArray | None, reason: str) -> None:
    """Tie two arrays; where only one is labelled, freeze it for the reason."""
    if left is not None and right is not None:
        site.tie(left, right)
    elif left is not None or right is not None:
        site.freeze(left if right is None else right, reason)  # type: ignore[arg-type]


def _input_channels(site: Site, x: Labels, weight: Labels) -> tuple[IntArray | None, int]:
    """Return the labels of a convolution's input channels and their axis."""
    axis = len(x.shape) - len(weight.shape) + 1
    slides = "slides over an axis that carries channels"
    site.uniform(x, range(axis + 1, len(x.shape)), slides)
    site.uniform(weight, range(2, len(weight.shape)), slides)
    return site.sole(x, axis), axis


def _follow_groups(site: Site, channels: IntArray | None, out: IntArray | None, groups: int) -> None:
    """Tie each group's outputs to its one input channel."""
    if out is not None and channels is not None:
        site.tie(out.reshape(groups, -1), channels[:, None])
    else:
        link(site, channels, out, _STAYS)


def _balance(
    site: Site, channels: IntArray | None, into: IntArray | None, out: IntArray | None, groups: int
) -> None:
    """Tie index j of every group's input and output channels."""
    if channels is not None and into is not None:
        site.tie(channels.reshape(groups, -1), into[None, :])
    else:
        link(site, channels, into, _STAYS)
    if into is not None:
        site.book.read.append(into)
    if out is not None:
        rows = out.reshape(groups, -1)
        site.tie(rows[:1], rows)
        site.book.owned.append(out)


def _tiled(site: Site, own: IntArray | None, groups: int) -> IntArray | None:
    """Return the labels of all groups' outputs; one output per group cannot be removed."""
    return None if own is None else np.tile(own, groups)


def _tie_bias(site: Site, bias: Labels | None, out: IntArray | None) -> None:
    """Let a bias follow the output channels."""
    if bias is not None:
        link(site, site.sole(bias, 0), out, "adds to channels that all stay")


def _output(site: Site, axis: int, out: IntArray | None) -> Labels:
    """Return the output's labels: channels on one axis."""
    return Labels(site.shape, () if out is None else (Factor((axis,), out),))
