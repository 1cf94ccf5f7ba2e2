"""Recompute every size, count and index that a graph spells out, from the channels that survive."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import fx

from smartc.analysis.channels.labels import BoolArray, Labels
from smartc.core.errors import InternalError
from smartc.ir.traced_model import (
    TracedModel,
    Value,
    argument_of,
    arguments_of,
    layer_name,
    operator_name,
    operator_of,
    stored_name,
    value_of,
)
from smartc.passes.shared.survivors import Survivors, scaled

aten = torch.ops.aten


Rewrite = Callable[[TracedModel, fx.Node, Survivors], None]


def rewrite_sizes(model: TracedModel, node: fx.Node, survivors: Survivors) -> None:
    """Rewrite one call's literal sizes, in place."""
    rewrite = _REWRITES.get(operator_of(node).rule)
    if rewrite is not None:
        rewrite(model, node, survivors)


def _sizes(model: TracedModel, node: fx.Node, survivors: Survivors) -> None:
    """Rewrite the sizes of a view, an expansion or a new tensor."""
    place = next((i for i, arg in enumerate(arguments_of(node)) if isinstance(arg, (list, tuple))), None)
    if place is None:  # view(dtype)
        return
    start = 0
    if operator_name(node.target) == "unflatten":
        start = arguments_of(node)[1] % len(survivors.labels[arguments_of(node)[0]].shape)
    sizes = [survivors.size(node, start + axis, size) for axis, size in enumerate(arguments_of(node)[place])]
    if sizes != list(arguments_of(node)[place]):
        node.update_arg(place, sizes)


def _split(model: TracedModel, node: fx.Node, survivors: Survivors) -> None:
    """Write the surviving size of every part."""
    dim = argument_of(node, 2, "dim", 0)
    if survivors.of(arguments_of(node)[0], dim) is None:
        return
    parts = survivors.labels[node]
    alive = [survivors.along(part, dim) for part in parts]
    sizes = [part.shape[dim] if a is None else int(a.sum()) for part, a in zip(parts, alive, strict=True)]
    node.target = aten.split_with_sizes.default
    node.args, node.kwargs = (arguments_of(node)[0], sizes, dim), {}


def _slice(model: TracedModel, node: fx.Node, survivors: Survivors) -> None:
    """Write the surviving range, or gather where it is no longer a range."""
    source, dim = arguments_of(node)[0], argument_of(node, 1, "dim", 0)
    start, end, step = (argument_of(node, 2, "start"), argument_of(node, 3, "end"), argument_of(node, 4, "step", 1))
    alive = survivors.of(source, dim)
    if alive is None:
        return
    if operator_name(node.target) == "narrow":
        end, step = start + end, 1  # the third argument of narrow is a length
    positions = np.arange(len(alive))[slice(start, end, step)]
    _take(model, node, dim, positions, alive)


def _take(model: TracedModel, node: fx.Node, dim: Any, positions: Any, alive: BoolArray) -> None:
    """Take the surviving ones of some positions of the first argument."""
    new = (np.cumsum(alive) - 1)[positions[alive[positions]]]
    step = np.unique(np.diff(new))
    if len(new) < 2 or (len(step) == 1 and step[0] > 0):
        stride = int(step[0]) if len(step) else 1
        node.target = aten.slice.Tensor
        node.args = (arguments_of(node)[0], dim, int(new[0]), int(new[-1]) + 1, stride)
    else:
        node.target = aten.index_select.default
        node.args = (arguments_of(node)[0], dim, _constant(model, node, new))
    node.kwargs = {}


def _select(model: TracedModel, node: fx.Node, survivors: Survivors) -> None:
    """Write the index that the selected channel has now."""
    source, dim, index = arguments_of(node)
    alive = survivors.of(source, dim)
    if alive is not None:
        node.update_arg(2, int(alive[: index % len(alive)].sum()))


def _scatter(model: TracedModel, node: fx.Node, survivors: Survivors) -> None:
    """Write where the place that is written to lies now."""
    arguments = arguments_of(node)
    if operator_name(node.target) == "select_scatter":
        source, _, dim, index = arguments
        alive = survivors.of(source, dim)
        if alive is not None:
            node.update_arg(3, int(alive[: index % len(alive)].sum()))
        return
    alive = survivors.of(arguments[0], argument_of(node, 2, "dim", 0))
    if alive is not None:
        start, end, _ = slice(argument_of(node, 3, "start"), argument_of(node, 4, "end")).indices(len(alive))
        dim = argument_of(node, 2, "dim", 0)
        node.args, node.kwargs = (*arguments[:2], dim, int(alive[:start].sum()), int(alive[:end].sum())), {}


def _unbind(model: TracedModel, node: fx.Node, survivors: Survivors) -> None:
    """Check that an axis taken apart lost nothing."""
    dim = argument_of(node, 1, "dim", 0)
    if survivors.of(arguments_of(node)[0], dim) is not None:
        raise InternalError("an axis that is taken apart lost indices", where=layer_name(node))


def _gather(model: TracedModel, node: fx.Node, survivors: Survivors) -> None:
    """Write the surviving entries of a constant index."""
    if operator_name(node.target) == "index":
        dim = next(axis for axis, one in enumerate(arguments_of(node)[1]) if one is not None)
        index = arguments_of(node)[1][dim]
    else:
        dim, index = arguments_of(node)[1], arguments_of(node)[2]
    alive = survivors.of(arguments_of(node)[0], dim)
    if alive is None:
        return
    positions = model.tensor(str(stored_name(index))).numpy() % len(alive)
    new = (np.cumsum(alive) - 1)[positions[alive[positions]]]
    node.target = aten.index_select.default
    node.args, node.kwargs = (arguments_of(node)[0], dim, _constant(model, node, new)), {}


def _roll(model: TracedModel, node: fx.Node, survivors: Survivors) -> None:
    """Roll by the number of surviving indices that wrap around."""
    shifts, dims = (list(np.atleast_1d(arg)) for arg in (arguments_of(node)[1], argument_of(node, 2, "dims", [])))
    for place, dim in enumerate(dims):
        alive = survivors.of(arguments_of(node)[0], int(dim))
        if alive is not None:
            shifts[place] = alive[len(alive) - shifts[place] % len(alive) :].sum()
    if dims:
        node.update_arg(1, [int(shift) for shift in shifts])
        node.update_arg(2, [int(dim) for dim in dims])


def _pad(model: TracedModel, node: fx.Node, survivors: Survivors) -> None:
    """Pad by the surviving channels of the padding."""
    amounts = list(arguments_of(node)[1])
    rank = len(survivors.labels[node].shape)
    for place in range(len(amounts) // 2):
        alive = survivors.of(node, rank - 1 - place)
        before, after = amounts[2 * place : 2 * place + 2]
        if alive is not None and (before or after):
            amounts[2 * place] = int(alive[:before].sum())
            amounts[2 * place + 1] = int(alive[len(alive) - after :].sum())
    if amounts != list(arguments_of(node)[1]):
        node.update_arg(1, amounts)


def _measured(model: TracedModel, node: fx.Node, survivors: Survivors) -> None:
    """Compute the size that an axis had, or the number of elements that a tensor had, from what it has now.

    Whatever the graph computes from a size so stays as it was; sizes that follow channels are rewritten where they
    are used.
    """
    name, arguments = operator_name(node.target), arguments_of(node)
    labels = survivors.labels.get(arguments[0]) if arguments else None
    if not isinstance(labels, Labels) or name not in ("sym_size", "sym_numel", "numel"):
        return
    axes = [arguments[1] % len(labels.shape)] if name == "sym_size" else range(len(labels.shape))
    flags = [alive for alive in (survivors.of(arguments[0], axis) for axis in axes) if alive is not None]
    if flags:
        readers = list(node.users)
        with node.graph.inserting_after(node):
            had = scaled(node, math.prod(len(alive) for alive in flags), math.prod(int(a.sum()) for a in flags))
        had.meta["value"] = value_of(node)
        for reader in readers:
            reader.replace_input_with(node, had)


def _groups(model: TracedModel, node: fx.Node, survivors: Survivors) -> None:
    """Write the number of groups left of a depthwise convolution."""
    groups = argument_of(node, 6, "groups", 1)
    source = survivors.labels[arguments_of(node)[0]]
    axis = len(source.shape) - len(survivors.labels[arguments_of(node)[1]].shape) + 1
    alive = survivors.of(arguments_of(node)[0], axis)
    if groups == 1 or alive is None or len(alive) != groups:
        return
    if len(arguments_of(node)) > 6:
        node.update_arg(6, int(alive.sum()))
    else:
        node.update_kwarg("groups", int(alive.sum()))


def _group_norm(model: TracedModel, node: fx.Node, survivors: Survivors) -> None:
    """Write the number of normalisation groups left; each has lost all of its channels or as many as the others."""
    alive = survivors.of(arguments_of(node)[0], 1)
    if alive is not None:
        node.update_arg(1, int(alive.reshape(arguments_of(node)[1], -1).any(axis=1).sum()))


def _layer_norm(model: TracedModel, node: fx.Node, survivors: Survivors) -> None:
    """Write the sizes that are left of the axes that are normalised."""
    source, sizes = arguments_of(node)[:2]
    first = len(survivors.labels[source].shape) - len(sizes)
    left = [survivors.size(source, first + axis, size) for axis, size in enumerate(sizes)]
    if left != list(sizes):
        node.update_arg(1, left)


def _recurrence(model: TracedModel, node: fx.Node, survivors: Survivors) -> None:
    """Give a projected LSTM a channel of zeros more, if it is left with as many channels as cells.

    PyTorch tells from the sizes of the states whether there is a projection.
    """
    given = arguments_of(node)
    if operator_name(node.target) != "lstm" or len(given[2]) % 2 == 0:
        return
    labels = survivors.labels[node]
    left = [one.shape[2] if (a := survivors.along(one, 2)) is None else int(a.sum()) for one in labels[1:]]
    if left[0] != left[1]:
        return
    (hidden, cell), (into, recurrent, *biases, projection) = given[1:3]
    wider, rows = left[0] + 1, 4 * left[1]
    with model.graph.inserting_before(node):
        hidden = _call(model, aten.pad.default, (hidden, [0, 1]), value_of(hidden).resized(2, wider))
        recurrent = _call(model, aten.pad.default, (recurrent, [0, 1]), Value((rows, wider), value_of(recurrent).dtype))
        projection = _call(
            model, aten.pad.default, (projection, [0, 0, 0, 1]), Value((wider, left[1]), value_of(projection).dtype)
        )
    node.args = (given[0], [hidden, cell], [into, recurrent, *biases, projection], *given[3:])
    for output in [user for user in node.users if arguments_of(user)[1] < 2]:
        with model.graph.inserting_after(output):
            own = _call(model, aten.slice.Tensor, (output, 2, 0, left[0]), value_of(output).resized(2, left[0]))
        output.replace_all_uses_with(own, delete_user_cb=partial(operator.is_not, own))


def _call(model: TracedModel, target: Any, arguments: tuple[Any, ...], value: Value) -> fx.Node:
    """Write a call whose output is known."""
    node = model.graph.call_function(target, arguments)
    node.meta["value"] = value
    return node


def _constant(model: TracedModel, node: fx.Node, index: Any) -> fx.Node:
    """Add a constant index before a node."""
    with model.graph.inserting_before(node):
        return model.add_buffer(f"{node.name}_kept", torch.from_numpy(index.astype(np.int64)))


# By the rule of channels, which knows what sizes an operator spells out.
_REWRITES: dict[str, Rewrite] = {
    "reshape": _sizes,
    "expand": _sizes,
    "fill": _sizes,
    "new_fill": _sizes,
    "split": _split,
    "slice": _slice,
    "index_select": _gather,
    "index": _gather,
    "convolution": _groups,
    "transposed_convolution": _groups,
    "pad": _pad,
    "select": _select,
    "slice_scatter": _scatter,
    "select_scatter": _scatter,
    "unbind": _unbind,
    "roll": _roll,
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
    "number": _measured,
    "recurrence": _recurrence,
}
