"""Channel groups as text that can be read aloud: who owns, reads and follows which unit, and what stays."""

from __future__ import annotations

from smartc.analysis.channels.channel_groups import FROZEN, ChannelGroups
from smartc.analysis.channels.labels import IntArray


def read_aloud(groups: ChannelGroups) -> str:
    """Return a line per parameter axis; ``-`` stands for an index that always stays."""
    names = [f"{axis.name}[{axis.axis}]" for axis in groups.axes]
    width = max(map(len, names), default=0)
    lines = [
        f"{name:{width}} {axis.role:7} {_units(axis.units)}" for name, axis in zip(names, groups.axes, strict=True)
    ]
    lines += [f"frozen {name}[{axis}]: {reason}" for (name, axis), reason in groups.frozen.items()]
    return "\n".join(lines) + "\n"


def _units(units: IntArray) -> str:
    """Return units as a list."""
    return "[" + ", ".join("-" if unit == FROZEN else str(unit) for unit in units) + "]"
