"""``smartc compare``: two builds side by side, layer by layer."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

from rich import box
from rich.table import Table
from rich.text import Text

from smartc.cli.report import read_report
from smartc.cli.terminal import output
from smartc.core.errors import UserError
from smartc.reporting.facts import metric_texts
from smartc.reporting.layers import CHEAP_SHARE, speed_up
from smartc.reporting.terminal import Encodable
from smartc.results.formats import count, milliseconds, shape_change, shortened, significant, size, times
from smartc.results.report import Layer, Report

NAME_WIDTH = 40
# What is said of each build, nothing where it has no such total.
_TOTALS: dict[str, Callable[[Report], str]] = {
    "model": lambda one: one.model,
    "target": lambda one: one.target,
    "budget": lambda one: f"{one.budget.kind} {one.budget.asked}, reached {one.budget.reached}",
    "latency": lambda one: f"{milliseconds(one.latency.compiled)} ({one.latency.kind})",
    "speed-up": lambda one: times(one.latency.speed_up),
    "parameters": lambda one: count(one.summary.parameters.compiled),
    "MACs": lambda one: count(one.summary.macs.compiled),
    "weights": lambda one: size(one.summary.weight_bytes.compiled),
    "cosine": lambda one: f"{one.agreement.cosine:.4f}",
    "metric": lambda one: f"{one.evaluation.metric} {metric_texts(one.evaluation)[1]}" if one.evaluation else "",
}


def run(arguments: argparse.Namespace) -> None:
    """Print what two builds cost, their totals and then their layers.

    Raises:
        UserError: A folder is no build, or the two have no layer in common.
    """
    first, second = (read_report(folder) for folder in (arguments.build, arguments.other))
    pairs = common_layers(first, second)
    if not pairs:
        where, fix = f"{arguments.build} and {arguments.other}", "Compare two builds of the same network"
        raise UserError("they have no layer in common", where=where, fix=fix)
    console = output()
    console.print(Encodable(_totals(first, second, (arguments.build, arguments.other))))
    console.print(Encodable(_layers(first, second, pairs, arguments.all)))
    console.say("times are after compilation; gain: how many times faster the second is")
    if "measured" in (first.latency.kind, second.latency.kind):
        console.say("measured times of two builds were not taken side by side: compare their speed-ups")


def common_layers(first: Report, second: Report) -> list[tuple[Layer, Layer]]:
    """Return the layers of the same name and operator that both reports have, in the order of the first."""
    others = {(layer.name, layer.op): layer for layer in second.layers}
    pairs = ((layer, others.get((layer.name, layer.op))) for layer in first.layers)
    return [(layer, other) for layer, other in pairs if other is not None]


def _totals(first: Report, second: Report, folders: tuple[str, str]) -> Table:
    """Return a row for each total that both have, a column for each build."""
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    table.add_column("")
    for folder in folders:
        table.add_column(folder, overflow="fold", header_style="bold")
    for name, text in _TOTALS.items():
        texts = text(first), text(second)
        if all(texts):
            table.add_row(name, *texts)
    return table


def _layers(first: Report, second: Report, pairs: list[tuple[Layer, Layer]], show_all: bool) -> Table:
    """Return a row for each layer, and for the cheap ones together."""
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    table.add_column("layer", no_wrap=True, header_style="dim")
    for title in ("output", "first ms", "second ms", "gain"):
        table.add_column(title, justify="left" if title == "output" else "right", no_wrap=True, header_style="dim")
    least = (CHEAP_SHARE * first.latency.compiled, CHEAP_SHARE * second.latency.compiled)
    shown = [
        pair
        for pair in pairs
        if show_all or any(one.compiled.ms >= part for one, part in zip(pair, least, strict=True))
    ]
    for one, other in shown:
        shapes = shape_change(one.compiled.shape, other.compiled.shape)
        table.add_row(Text(shortened(one.name, NAME_WIDTH)), shapes, *_times(one.compiled.ms, other.compiled.ms))
    names = {one.name for one, _ in shown}
    rest = [
        math.fsum(layer.compiled.ms for layer in report.layers if layer.name not in names) for report in (first, second)
    ]
    if any(rest):
        table.add_row("others", "", *_times(*rest))
    table.add_row("total", "", *_times(first.latency.compiled, second.latency.compiled), style="bold")
    return table


def _times(first: float, second: float) -> tuple[str, str, Text]:
    """Return two times and how many times faster the second is."""
    return significant(first), significant(second), speed_up(first, second)
