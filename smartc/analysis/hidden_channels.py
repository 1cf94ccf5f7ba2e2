"""Channels that a computed constant hides: a stored tensor in its place would leave more of them free."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from torch import fx

from smartc.analysis.channels.channel_groups import FROZEN, ChannelGroups
from smartc.analysis.channels.labels import IntArray, LabelBook, Labels
from smartc.analysis.channels.settle import settle
from smartc.analysis.find_channel_groups import propagate
from smartc.ir.traced_model import TracedModel, argument_of, operator_of

_PRODUCTS = ("product", "added_product", "einsum")


def hides_channels(model: TracedModel, node: fx.Node, region: Sequence[fx.Node], live: Collection[fx.Node]) -> bool:
    """Return whether a constant's axes are less free than those of a stored tensor of its shape.

    Args:
        model: Whose graph it is.
        node: What computes the constant.
        region: The node and all that it is computed from, in graph order.
        live: The calls that read the constant.
    """
    book = LabelBook()
    labels = propagate(model, book, {}, region)[node]
    if not isinstance(labels, Labels):
        return False
    if not labels.weight and any(is_weight_of(node, reader) for reader in live):
        return True
    labelled = {axis for factor in labels.factors for axis in factor.axes}
    if any(size > 1 and axis not in labelled for axis, size in enumerate(labels.shape)):
        return True
    root = settle(book, labels.factors)
    stays = [root[array] for array, _ in book.frozen]
    units = [root[factor.labels].reshape(-1) for factor in labels.factors]
    apart = all(len(np.unique(one)) == len(one) for one in units)
    return not apart or bool(stays and units and np.isin(np.concatenate(units), np.concatenate(stays)).any())


def is_weight_of(node: fx.Node, reader: fx.Node) -> bool:
    """Return whether a call multiplies by a node as by a weight, where a stored tensor could read and own channels."""
    operator = operator_of(reader)
    if operator.is_layer and operator.weight is not None:
        return argument_of(reader, operator.weight.place, operator.weight.name) is node
    return operator.rule in _PRODUCTS


def removable_at(groups: ChannelGroups, node: fx.Node) -> int:
    """Return the number of units that the axes of a node's output can lose."""
    return sum(len(units) for units in _units_at(groups, node))


def removable_outside(groups: ChannelGroups, names: Collection[str]) -> int:
    """Return the number of channels that all but some tensors own and can lose; of each group one unit stays."""
    owned = np.zeros(groups.count, dtype=np.int64)
    for axis in groups.axes:
        if axis.role == "owns" and axis.name not in names:
            owned += np.bincount(axis.units[axis.units != FROZEN], minlength=groups.count)
    return sum(int(owned[group.units[1:]].sum()) for group in groups.groups)


def _units_at(groups: ChannelGroups, node: fx.Node) -> list[IntArray]:
    """Return the removable units along each factor of a node's outputs."""
    labels = groups.labels.get(node, ())
    several = labels if isinstance(labels, tuple) else (labels,)
    units = [np.unique(factor.labels) for one in several for factor in one.factors]
    return [one[one != FROZEN] for one in units]
