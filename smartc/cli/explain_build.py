"""What was decided about each layer of a build and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from smartc.artifact.manifest import check_files
from smartc.cli.report import read_report
from smartc.cli.terminal import Output, output
from smartc.decision.plan_form import read_plan
from smartc.reporting.terminal import Encodable
from smartc.results.formats import milliseconds, percent, shape_text
from smartc.results.report import Figures, Layer, Report


def explain_build(folder: str, layer: str | None) -> None:
    """Print decision and reason of every layer, or one layer in full.

    Raises:
        UserError: The folder is no build, or has no such layer.
    """
    report = read_report(folder)
    console = output()
    if layer is None:
        console.print(Encodable(_overview(report)))
        return
    tensors = {name: entry for name, entry in _tensors(folder).items() if _belongs(name, layer)}
    found = [one for one in report.layers if one.name == layer]
    if not found and not tensors:
        found = [report.layer(layer)]
    for one in found:
        _print_layer(console, one)
    for name, entry in tensors.items():
        for line in _axis_lines(name, entry):
            console.say(line)


def _overview(report: Report) -> Table:
    """Return a table with a row per layer."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("layer", "op", "decision", "weight before", "after"):
        table.add_column(heading, no_wrap=True)
    table.add_column("why", ratio=1)
    for one in report.layers:
        weights = (shape_text(one.dense.weight_shape), shape_text(one.compiled.weight_shape))
        table.add_row(Text(one.name), one.op, one.decision, *weights, Text(one.reason))
    return table


def _print_layer(console: Output, layer: Layer) -> None:
    """Print what is known of one layer."""
    console.say(f"{layer.name} ({layer.op}): {layer.decision}, {layer.reason}")
    for side, figures in (("before", layer.dense), ("after", layer.compiled)):
        weight = f", weight {shape_text(figures.weight_shape)}" if figures.weight_shape else ""
        tiles = f", {figures.tiles[0]} of {figures.tiles[1]} tiles" if figures.tiles else ""
        console.say(
            f"  {side}: {_time(figures)}, "
            f"utilisation {percent(figures.utilisation)}, output {shape_text(figures.shape)}{weight}{tiles}"
        )


def _time(figures: Figures) -> str:
    """Return what a layer takes: cycles and their cause, or the spread of a time that was measured."""
    if figures.spread_ms is not None:
        return f"{milliseconds(figures.ms)} ± {milliseconds(figures.spread_ms)}"
    return f"{milliseconds(figures.ms)}, {figures.cycles:.0f} cycles, bound by {figures.bound}"


def _tensors(folder: str) -> Mapping[str, Any]:
    """Return what the plan says about tensors, the constants that were stored among them."""
    check_files(folder, "plan.json")
    plan = read_plan(Path(folder) / "plan.json")
    return {**plan["tensors"], **plan.get("constants", {})}


def _belongs(tensor: str, layer: str) -> bool:
    """Return whether a tensor is a layer's own."""
    return tensor == layer or tensor.startswith(f"{layer}.")


def _axis_lines(name: str, entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a constant was computed from, and what is kept of each axis of a tensor."""
    if "computed_from" in entry:
        yield f"  {name} holds what {' and '.join(entry['computed_from']) or 'literals'} compute"
    for axis in entry["axes"]:
        number, kept = axis["axis"], axis["kept"]
        count = f"{len(kept)} of {entry['shape'][number]} kept"
        yield f"  {name}, axis {number} ({axis['role']} channels): {count}: {ranges(kept)}"


def ranges(indices: Sequence[int]) -> str:
    """Return indices as ranges of neighbours: ``0-3, 7``."""
    parts: list[list[int]] = []
    for index in indices:
        if parts and index == parts[-1][1] + 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
