"""Which channels of a model can be removed together, and what keeps the others."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence

import numpy as np
from rich.table import Table
from rich.text import Text

from smartc.analysis.channels.channel_groups import FROZEN, ChannelGroup, ChannelGroups
from smartc.analysis.find_channel_groups import find_channel_groups
from smartc.cli.terminal import Output, output
from smartc.core.errors import UserError
from smartc.ir.traced_model import TracedModel
from smartc.reporting.terminal import Encodable
from smartc.results.formats import listing
from smartc.targets.target import Target

_NAMES_SHOWN = 4
_ROLES = ("owns", "reads", "follows")


def explain_model(model: TracedModel, layer: str | None, target: Target | None) -> None:
    """Print the channel groups and what is frozen, or the axes of one layer.

    Raises:
        UserError: There is no such layer.
    """
    groups = find_channel_groups(model)
    console = output()
    if layer is not None:
        _print_layer(console, model, groups, layer)
        return
    inputs = ", ".join(map(str, model.inputs))
    title = f"{model.name} ({inputs}): {groups.channels} removable channels in {len(groups.groups)} groups"
    console.say(title)
    console.print(Encodable(_groups_table(groups, target)))
    for reason, axes in _frozen_by_reason(groups).items():
        console.say(f"stays, because it {reason}: {listing(axes, _NAMES_SHOWN)}")
    for remark in model.remarks:
        console.say(f"remark {remark.where}: {remark.text}")


def _groups_table(groups: ChannelGroups, target: Target | None) -> Table:
    """Return a table with a row per channel group."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("group", no_wrap=True)
    table.add_column("channels", justify="right", no_wrap=True)
    if target is not None:
        table.add_column(f"tiles of {target.align.cout}", justify="right", no_wrap=True)
    for heading in ("owned by", "read by"):
        table.add_column(heading, ratio=1)
    members = _members(groups)
    for group, roles in zip(groups.groups, members, strict=True):
        tiles = [] if target is None else [str(math.ceil(len(group) / target.align.cout))]
        names = (Text(listing(roles[role], _NAMES_SHOWN)) for role in ("owns", "reads"))
        table.add_row(Text(group.name), _count(group), *tiles, *names)
    return table


def _count(group: ChannelGroup) -> str:
    """Return how many channels a group has; some move in sets."""
    return str(len(group)) if group.weight == 1 else f"{len(group)} x {group.weight}"


def _members(groups: ChannelGroups) -> list[Mapping[str, list[str]]]:
    """Return the layers of each group by role."""
    members: list[dict[str, list[str]]] = [{role: [] for role in _ROLES} for _ in groups.groups]
    group_of = groups.group_of
    for axis in groups.axes:
        for index in np.unique(group_of[axis.units[axis.units != FROZEN]]):
            names = members[index][axis.role]
            name = axis.name.removesuffix(".weight")
            if name not in names:
                names.append(name)
    return list(members)


def _frozen_by_reason(groups: ChannelGroups) -> dict[str, list[str]]:
    """Return the frozen axes by what keeps them."""
    found: dict[str, list[str]] = {}
    for (name, axis), reason in groups.frozen.items():
        found.setdefault(reason, []).append(f"{name} axis {axis}")
    return found


def _print_layer(console: Output, model: TracedModel, groups: ChannelGroups, layer: str) -> None:
    """Print what is known of each axis of a layer's tensors."""
    lines = [*_axis_lines(groups, layer), *_frozen_lines(groups, layer)]
    if not lines and not any(_belongs(name, layer) for name in model.state_names):
        names = sorted({name.rpartition(".")[0] for name in model.state_names} - {""})
        nearest = difflib.get_close_matches(layer, names, n=3, cutoff=0.3) or names[:3]
        fix = f"The nearest are {', '.join(nearest)}"
        raise UserError(f"no layer with weights is called {layer!r}", where=model.name, fix=fix)
    for line in lines or [f"{layer} has no axis of channels"]:
        console.say(line)


def _axis_lines(groups: ChannelGroups, layer: str) -> Sequence[str]:
    """Return a line per axis of a layer that has removable channels."""
    names = [group.name for group in groups.groups]
    group_of = groups.group_of
    lines = []
    for axis in groups.axes:
        if _belongs(axis.name, layer):
            free = axis.units[axis.units != FROZEN]
            owners = listing([names[index] for index in np.unique(group_of[free])], _NAMES_SHOWN)
            count = f"{len(free)} of {len(axis.units)} removable"
            place = f"{axis.name} axis {axis.axis} {axis.role} channels"
            lines.append(f"{place}: {count}, in the group of {owners}")
    return lines


def _frozen_lines(groups: ChannelGroups, layer: str) -> Sequence[str]:
    """Return a line per axis of a layer that stays."""
    return [
        f"{name} axis {axis} stays, because it {reason}"
        for (name, axis), reason in groups.frozen.items()
        if _belongs(name, layer)
    ]


def _belongs(tensor: str, layer: str) -> bool:
    """Return whether a tensor is a layer's own."""
    return tensor == layer or tensor.startswith(f"{layer}.")
