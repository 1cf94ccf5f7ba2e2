"""``smartc targets``: the devices there are, and what is known of one."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from rich.table import Table
from rich.text import Text

from smartc.cli import calibrate as command_calibrate
from smartc.cli.terminal import output
from smartc.core.errors import UserError
from smartc.measuring.cost_table_file import AGAIN, noise_text, read_table, table_path
from smartc.reporting.terminal import Encodable
from smartc.results.formats import significant
from smartc.targets.cost_table import NOISY, CostTable
from smartc.targets.sources import source_of, table_leaves
from smartc.targets.target import Target, load_target, target_names
from smartc.targets.toml_text import toml_text

# What the kinds of measured kernels are called.
_KERNELS = {
    "matrix": "convolution, ONNX Runtime",
    "linear": "linear, ONNX Runtime",
    "depthwise": "depthwise, ONNX Runtime",
    "vector": "addition, ONNX Runtime",
    "step": "step of channels, ONNX Runtime",
    "packed": "8x8 blocks, TVM",
}


def run(arguments: argparse.Namespace) -> None:
    """Print a row per target, or every key of one with its source; or measure this machine."""
    names = arguments.name
    if arguments.toml and (not names or names[0] == "calibrate"):
        raise UserError(
            "no target is named", where="targets --toml", fix="Name one, as in smartc targets npu-8x8 --toml"
        )
    if not names:
        output().print(_overview([load_target(name) for name in target_names()]))
    elif names[0] == "calibrate":
        if len(names) != 2:
            raise UserError("one target is measured at a time", where="targets calibrate", fix="Give cpu")
        command_calibrate.run(names[1])
    elif len(names) > 1:
        raise UserError("one target is shown at a time", where=f"targets {' '.join(names)}", fix="Give one name")
    elif arguments.toml:
        sys.stdout.write(toml_text(load_target(names[0])))
    else:
        _show(load_target(names[0]))


def _show(target: Target) -> None:
    """Print a target in full."""
    console = output()
    if not target.is_this_machine:
        console.print(Encodable(_details(target)))
        console.say(f"\n{target.assumption}.")
        return
    table = read_table()
    if table is None:
        console.say(f"{target.assumption}, and it was not yet measured. {AGAIN}.")
        return
    versions = ", ".join(f"{name} {version}" for name, version in table.versions.items())
    console.say(f"{target.assumption}, {table.processor}, on one thread.")
    console.say(f"{len(table.points)} kernels in {table_path()}, of {table.date}, with {versions}\n")
    if table.noise >= NOISY:
        console.say(f"{noise_text(table)}.\n")
    console.print(Encodable(_kernels(table)))


def _kernels(table: CostTable) -> Table:
    """Return a table of the kernels that were measured."""
    shown = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for heading in ("kernel", "taps", "pixels", "channels", "live tiles", "time", "spread", "GMAC/s"):
        shown.add_column(heading, no_wrap=True, justify="left" if heading == "kernel" else "right")
    for point in table.points:
        counted = "" if point.kind == "vector" else f"{point.cin} to {point.cout}"
        shown.add_row(
            _KERNELS[point.kind],
            str(point.kernel),
            str(point.pixels),
            counted,
            "" if point.live < 0 else str(point.live),
            f"{significant(point.us)} µs",
            f"{significant(point.spread_us, 2)} µs",
            significant(point.macs / point.us / 1e3) if point.macs else "",
        )
    return shown


def _overview(targets: list[Target]) -> Table:
    """Return a table of targets, a row each."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for heading in ("target", "figures are", "array", "clock", "peak", "zero tiles", "weights"):
        table.add_column(heading, no_wrap=True)
    for target in targets:
        if target.is_this_machine:
            table.add_row(target.name, target.provenance, "-", "-", "-", "skipped with TVM", _bits(target))
            continue
        array, megahertz = target.array, target.array.frequency_hz / 1e6
        peak = array.rows * array.cols * array.tiles_per_cycle * array.frequency_hz / 1e9
        table.add_row(
            target.name,
            target.provenance,
            f"{array.rows}x{array.cols}",
            f"{megahertz:g} MHz",
            f"{peak:g} GMAC/s",
            "skipped" if target.sparsity.zero_tile_skip else "computed",
            _bits(target),
        )
    return table


def _bits(target: Target) -> str:
    """Return the size of a weight."""
    return f"{target.precision.weight_bits} bit"


def _details(target: Target) -> Table:
    """Return a table of all keys of a target with value and source."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("key", no_wrap=True)
    table.add_column("value", ratio=1)
    table.add_column("source", ratio=1, style="dim")
    described = target.to_dict()
    sources = described.pop("source")
    for key, value in table_leaves(described):
        table.add_row(Text(key), Text(_shown(value)), Text(source_of(sources, key)))
    return table


def _shown(value: Any) -> str:
    """Return a value as the description writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.12g}" if isinstance(value, float) else str(value)
