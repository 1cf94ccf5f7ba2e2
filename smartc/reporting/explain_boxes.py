"""What a page that explains a model shows of each layer: what it reads and owns, what stays, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import fx

from smartc.analysis.channels.channel_groups import ChannelGroups
from smartc.analysis.channels.labels import IntArray
from smartc.analysis.find_layers import LayerRow, Layers
from smartc.ir.traced_model import TracedModel, layer_name, value_of
from smartc.results.formats import listing, shape_text

_NAMES_SHOWN = 3
_WITHOUT_WEIGHTS = "has no weights that own channels: it works on those that it is given"


@dataclass(frozen=True)
class Box:
    """One layer.

    Attributes:
        name: The user's name of it.
        op: Its operator.
        weight: The shape of its weight; empty where it has none.
        fused: The layers that are done with it.
        path: The modules that it is part of, the outermost first.
        reads: The channel groups of its inputs.
        owns: The channel groups of its outputs.
        stays: Whether it has weights of which nothing can go.
        reason: What can go of it, or why nothing can.
        sources: The layers whose outputs it takes, by their places.
        inputs: The inputs of the model that it takes.
    """

    name: str
    op: str
    weight: str
    fused: tuple[str, ...]
    path: tuple[str, ...]
    reads: tuple[int, ...]
    owns: tuple[int, ...]
    stays: bool
    reason: str
    sources: tuple[int, ...]
    inputs: tuple[str, ...] = ()


def boxes_of(model: TracedModel, layers: Layers) -> tuple[Box, ...]:
    """Return a box for each layer that costs time, in graph order."""
    flow = _flow(model, layers)
    return tuple(_box(model, layers.groups, row, *flow[place]) for place, row in enumerate(layers.rows))


def _box(
    model: TracedModel, groups: ChannelGroups, row: LayerRow, sources: Sequence[int], inputs: Sequence[str]
) -> Box:
    """Return the box of one layer."""
    reads, owns = (_groups(groups, units) for units in (row.shape.reads, row.shape.writes))
    fused = tuple(dict.fromkeys(layer_name(node) for node in row.fused))
    weight = row.shape.weight
    shape = shape_text(tuple(model.tensor(weight).shape)) if weight else ""
    path = tuple(row.name.split(".")[:-1])
    stays = weight is not None and not reads and not owns
    reason = _reason(model, groups, row)
    return Box(row.name, row.op, shape, fused, path, reads, owns, stays, reason, tuple(sources), tuple(inputs))


def _groups(groups: ChannelGroups, units: IntArray) -> tuple[int, ...]:
    """Return the groups that some units are of."""
    found: list[int] = np.unique(groups.group_of[units[units >= 0]]).tolist()
    return tuple(found)


def _reason(model: TracedModel, groups: ChannelGroups, row: LayerRow) -> str:
    """Return what can go of a layer, or why nothing can."""
    weight = row.shape.weight
    if weight is None:
        return _WITHOUT_WEIGHTS
    if weight in model.untouched:
        return f"kept: {model.untouched[weight]}"
    names = {weight, *model.names_of(weight)}
    texts = [
        f"{int((units >= 0).sum())} of {len(units)} {side} can go"
        for side, units in (("outputs", row.shape.writes), ("inputs", row.shape.reads))
        if (units >= 0).any()
    ]
    frozen = {axis: why for (name, axis), why in sorted(groups.frozen.items()) if name in names}
    texts += [f"axis {axis} of the weight stays, because it {why}" for axis, why in frozen.items()]
    return "; ".join(texts) or "has a single channel"


def group_names(indices: Sequence[int]) -> str:
    """Return groups as the page calls them: ``G1, G2``."""
    return listing([f"G{index + 1}" for index in indices], _NAMES_SHOWN)


def _flow(model: TracedModel, layers: Layers) -> list[tuple[list[int], list[str]]]:
    """Return, for each layer, the layers and the inputs of the model whose values it takes, through all between."""
    calls: dict[fx.Node, list[int]] = {}
    fused: dict[fx.Node, int] = {}
    for place, row in enumerate(layers.rows):
        calls.setdefault(row.node, []).append(place)
        fused |= dict.fromkeys(row.fused, place)
    comes_from: dict[fx.Node, dict[int | str, None]] = {}
    taken: list[dict[int | str, None]] = [{} for _ in layers.rows]
    for node in model.graph.nodes:
        # A size that is read off a tensor is no way for its values.
        sources = [source for source in node.all_input_nodes if not isinstance(value_of(source), (int, float))]
        found = {one: None for source in sources for one in comes_from.get(source, {})}
        comes_from[node] = {node.name: None} if node.op == "placeholder" else found
        for place in calls.get(node, []):
            # A call that is several layers is a chain of them.
            taken[place] |= found if place == calls[node][0] else {place - 1: None}
            comes_from[node] = {place: None}
        if node in fused:
            taken[fused[node]] |= {one: None for one in found if one != fused[node]}
            comes_from[node] = {fused[node]: None}
    return [([one for one in of if isinstance(one, int)], [one for one in of if isinstance(one, str)]) for of in taken]


def touched_groups(
    groups: ChannelGroups, names: Mapping[str, Sequence[str]]
) -> Iterator[tuple[Sequence[str], list[int]]]:
    """Yield, for each stored tensor with removable channels, all of its names and the groups that it is part of.

    Args:
        groups: The channel groups.
        names: What each tensor is called.
    """
    found: dict[str, set[int]] = {}
    for axis in groups.axes:
        found.setdefault(axis.name, set()).update(_groups(groups, axis.units))
    for name, members in found.items():
        yield names.get(name, (name,)), sorted(members)
