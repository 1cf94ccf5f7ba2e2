"""Turn a channel shuffle spelled as view, transpose, view into one gather by a constant index.

Between the two views the channels lie on two axes, which would force every group of channels to
lose as many as the others; through a gather each channel travels alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import fx

from smartc.analysis import channel_rules
from smartc.analysis.channel_rules.registry import rule_of
from smartc.analysis.channels.labels import IntArray, LabelBook, Site
from smartc.ir.traced_model import Remark, TracedModel, arguments_of, layer_name, operator_name, operator_of, value_of
from smartc.passes.shared.base import PassResult

aten = torch.ops.aten
# By the rules of channels: what only moves axes, a copy apart.
_MOVES = ("reshape", "squeeze", "permute", "transpose")
assert channel_rules.FAMILIES  # imported to fill the registry


@dataclass(frozen=True)
class MergeShuffles:
    """Replace chains of views that only permute one axis by ``index_select``."""

    name: ClassVar[str] = "merge-shuffles"

    def run(self, model: TracedModel) -> PassResult:
        """Return the model with every channel shuffle as a gather."""
        merged = model.copy()
        remarks = [_merge(merged, node) for node in list(merged.calls())]
        return PassResult(merged.cleaned(), tuple(remark for remark in remarks if remark))


def _merge(model: TracedModel, node: fx.Node) -> Remark | None:
    """Replace the shuffle that ends at a node, if one does."""
    if operator_name(node.target) == "channel_shuffle":
        source, groups = arguments_of(node)
        size = value_of(source).shape[1]
        return _gather(model, node, source, 1, np.arange(size).reshape(groups, -1).T.reshape(-1))
    chain = _chain(node)
    found = _permutation(chain) if chain else None
    return _gather(model, node, arguments_of(chain[0])[0], *found) if found else None


def _chain(node: fx.Node) -> list[fx.Node]:
    """Return the moves that end at a node and start from a tensor of the same shape, in order."""
    if operator_of(node).rule != "reshape":
        return []
    chain = [node]
    while True:
        source = arguments_of(chain[0])[0]
        if not isinstance(source, fx.Node):
            return []
        if value_of(source).shape == value_of(node).shape:
            return chain if len(chain) > 2 else []
        if not _moves(source) or len(source.users) > 1:
            return []
        chain.insert(0, source)


def _moves(node: fx.Node) -> bool:
    """Return whether a call puts its elements elsewhere at most."""
    operator = operator_of(node)
    return operator.rule in _MOVES or operator.family == "copy"


def _permutation(chain: list[fx.Node]) -> tuple[int, IntArray] | None:
    """Return the one axis that a chain permutes and its permutation, by running the chain on labels of every axis."""
    book = LabelBook()
    value = value_of(arguments_of(chain[0])[0])
    labels = Site(chain[0], value.shape, book).fresh(value.shape)
    before = {factor.axes: factor.labels for factor in labels.factors}
    for node in chain:
        site = Site(node, value_of(node).shape, book)
        args = fx.map_arg(arguments_of(node)[1:], lambda arg: value_of(arg))
        move = rule_of(operator_name(node.target))
        assert move is not None
        labels = move(site, labels, *args, **node.kwargs)
    after = {factor.axes: factor.labels for factor in labels.factors}
    if book.frozen or before.keys() != after.keys():
        return None
    moved = [axes for axes in after if not np.array_equal(before[axes], after[axes])]
    if len(moved) != 1 or set(after[moved[0]].tolist()) != set(before[moved[0]].tolist()):
        return None
    return moved[0][0], after[moved[0]] - before[moved[0]][0]


def _gather(model: TracedModel, node: fx.Node, source: Any, axis: int, order: IntArray) -> Remark:
    """Put a gather in a node's place."""
    with model.graph.inserting_before(node):
        index = model.add_buffer(f"{node.name}_order", torch.from_numpy(order.astype(np.int64)))
        gather = model.graph.call_function(aten.index_select.default, (source, axis, index))
    gather.meta = dict(node.meta)
    node.replace_all_uses_with(gather)
    return Remark(layer_name(node), f"shuffles axis {axis} by a constant index", changed=True)
