"""``smartc targets``: the devices there are, and what is known of one."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from rich.table import Table
from rich.text import Text

from smartc.targets.target import Target, load_target, target_names
from smartc.terminal import output


def run(arguments: argparse.Namespace) -> None:
    """Print a row per target, or every key of one with its source."""
    if arguments.name is None:
        output().print(_overview([load_target(name) for name in target_names()]))
    else:
        target = load_target(arguments.name)
        console = output()
        console.print(_details(target))
        console.say(f"\n{target.assumption}.")


def _overview(targets: list[Target]) -> Table:
    """Return a table of targets, a row each."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for heading in ("target", "figures are", "array", "clock", "peak", "zero tiles", "weights"):
        table.add_column(heading, no_wrap=True)
    for target in targets:
        array, megahertz = target.array, target.array.frequency_hz / 1e6
        peak = array.rows * array.cols * array.tiles_per_cycle * array.frequency_hz / 1e9
        table.add_row(
            target.name,
            target.provenance,
            f"{array.rows}x{array.cols}",
            f"{megahertz:g} MHz",
            f"{peak:g} GMAC/s",
            "skipped" if target.sparsity.zero_tile_skip else "computed",
            f"{target.precision.weight_bits} bit",
        )
    return table


def _details(target: Target) -> Table:
    """Return a table of all keys of a target with value and source."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("key", no_wrap=True)
    table.add_column("value", ratio=1)
    table.add_column("source", ratio=1, style="dim")
    described = target.to_dict()
    sources = described.pop("source")
    for key, value in _leaves(described):
        table.add_row(Text(key), Text(_shown(value)), Text(_source(sources, key)))
    return table


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and their values."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(value: Any) -> str:
    """Return a value as the description writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _source(sources: dict[str, str], key: str) -> str:
    """Return the source of a key, or of the table that it is in."""
    parts = key.split(".")
    holders = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((sources[holder] for holder in holders if holder in sources), "")
