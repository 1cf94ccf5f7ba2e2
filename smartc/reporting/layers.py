"""The table of layers for a terminal: what each cost before and after."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.table import Table
from rich.text import Text

from smartc.results.figures import SIDES
from smartc.results.formats import count, operator, shape_change, shortened, times
from smartc.results.report import Layer, Report

# A layer without weights below this share of both networks' time is folded into one row with the others.
CHEAP_SHARE = 0.01
NARROWEST_NAME = 14
DECISION_STYLES = {"channel": "cyan", "block": "cyan", "n:m": "cyan", "frozen": "yellow", "dense": "dim"}


@dataclass(frozen=True)
class Row:
    """Hold one line of the table: a layer, or several added up."""

    name: str
    layers: tuple[Layer, ...]

    @property
    def single(self) -> Layer | None:
        """Return the layer, where the row is one."""
        return self.layers[0] if self.name == self.layers[0].name else None

    @property
    def macs(self) -> tuple[int, int]:
        """Return multiply-accumulates before and after."""
        return sum(layer.dense.macs for layer in self.layers), sum(layer.compiled.macs for layer in self.layers)

    @property
    def weight_bytes(self) -> tuple[int, int]:
        """Return bytes of weights before and after."""
        dense = sum(layer.dense.weight_bytes for layer in self.layers)
        return dense, sum(layer.compiled.weight_bytes for layer in self.layers)

    @property
    def ms(self) -> tuple[float, float]:
        """Return milliseconds before and after."""
        dense = math.fsum(layer.dense.ms for layer in self.layers)
        return dense, math.fsum(layer.compiled.ms for layer in self.layers)

    @property
    def utilisation(self) -> float:
        """Return the used share of the peak after compilation, weighted by time."""
        busy = math.fsum(layer.compiled.utilisation * layer.compiled.ms for layer in self.layers)
        return busy / self.ms[1] if self.ms[1] else 0.0


@dataclass(frozen=True)
class _Column:
    """Hold one column: its cells, the total's last.

    Where the columns do not fit, the lowest rank is left out first.
    """

    title: str
    cells: Sequence[Text]
    right: bool = False
    rank: int = 99

    @property
    def width(self) -> int:
        """Return the cells that the column needs."""
        return max(len(self.title), *(cell.cell_len for cell in self.cells))


def fold_cheap(report: Report, show_all: bool) -> tuple[list[Row], list[Row]]:
    """Return the rows to show and those to fold into one: at least two, or none."""
    cheap = [not show_all and _is_cheap(report, layer) for layer in report.layers]
    if not 2 <= sum(cheap) < len(cheap):
        cheap = [False] * len(cheap)
    rows = [Row(layer.name, (layer,)) for layer in report.layers]
    shown = [row for row, folds in zip(rows, cheap, strict=True) if not folds]
    return shown, [row for row, folds in zip(rows, cheap, strict=True) if folds]


def layer_table(report: Report, rows: Sequence[Row], notes: dict[str, int], width: int) -> Table:
    """Return the table of the rows and their total, in at most ``width`` cells where that is possible."""
    total = Row("total", report.layers)
    columns = [column for column in _columns(report, [*rows, total], notes) if any(column.cells)]
    columns = _fitting(columns, width - NARROWEST_NAME)
    names_width = width - sum(column.width + 1 for column in columns)
    names = [Text(shortened(row.name, max(names_width, NARROWEST_NAME))) for row in rows]
    gap = 1 if max(map(len, names)) + len(columns) <= names_width else 0
    table = Table(box=box.SIMPLE, show_edge=False, show_footer=True, pad_edge=False, padding=(0, gap, 0, 0))
    table.add_column("layer", footer=Text("total", "bold"), no_wrap=True, header_style="dim")
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.right else "left"
        table.add_column(column.title, column.cells[-1], justify=justify, no_wrap=True, header_style="dim")
    for i, name in enumerate(names):
        table.add_row(name, *(column.cells[i] for column in columns))
    return table


def _is_cheap(report: Report, layer: Layer) -> bool:
    """Return whether the layer has no weights and hardly takes time."""
    weighs = layer.dense.weight_bytes or layer.compiled.weight_bytes
    return not weighs and all(report.share(layer, side) < CHEAP_SHARE for side in SIDES)


def _fitting(columns: list[_Column], width: int) -> list[_Column]:
    """Leave out the least needed columns until the others fit."""
    while sum(column.width + 1 for column in columns) > width and min(c.rank for c in columns) < 99:
        columns.remove(min(columns, key=lambda column: column.rank))
    return columns


def _columns(report: Report, rows: Sequence[Row], notes: dict[str, int]) -> list[_Column]:
    """Return every column but the names."""
    time = report.time_scale

    def of_layer(cell: Callable[[Layer], Text | str]) -> list[Text]:
        found = [cell(row.single) if row.single else "" for row in rows]
        return [Text(text) if isinstance(text, str) else text for text in found]

    return [
        _Column("op", of_layer(lambda layer: operator(layer.op, layer.dense.weight_shape)), rank=1),
        _Column("output", of_layer(_shape), rank=6),
        _Column("tiles", of_layer(_tiles), right=True, rank=4),
        _Column("MACs", _paired([_texts(row.macs, _brief) for row in rows]), right=True, rank=5),
        _Column("bytes", _paired([_texts(row.weight_bytes, _brief) for row in rows]), right=True, rank=7),
        _Column(time.unit, _paired([_texts(row.ms, time.text) for row in rows]), right=True),
        _Column("gain", [speed_up(*row.ms) for row in rows], right=True),
        _Column("bound", of_layer(_bound), rank=2),
        _Column("util", [_utilisation(row) for row in rows], right=True, rank=3),
        _Column("decision", of_layer(lambda layer: _decision(layer, notes)), rank=8),
    ]


def _texts(pair: tuple[float, float], text: Callable[..., str]) -> tuple[str, str]:
    """Return both values as text; nothing where both are zero."""
    return (text(pair[0]), text(pair[1])) if any(pair) else ("", "")


def _brief(value: float) -> str:
    """Return a count in four characters: 1.8M, 903k."""
    return count(int(value), 2)


def _paired(pairs: Sequence[tuple[str, str]]) -> list[Text]:
    """Return "before→after" with the arrows one below the other; a value that stays is shown once."""
    after_width = max(len(after) for _, after in pairs)
    cells = []
    for before, after in pairs:
        changed = before != after
        prefix = f"{before}→" if changed else ""
        cells.append(Text.assemble((prefix, "dim"), (after.rjust(after_width), "" if changed else "dim")))
    return cells


def _shape(layer: Layer) -> Text:
    """Return the output's shape, bright where it changed."""
    text = shape_change(layer.dense.shape, layer.compiled.shape)
    return Text(text, "" if "→" in text else "dim")


def _tiles(layer: Layer) -> str:
    """Return the share of tiles that is computed, for a layer with empty ones."""
    live, total = layer.compiled.tiles or (0, 0)
    return f"{100 * live / total:.0f}%" if live < total else ""


def speed_up(before: float, after: float) -> Text:
    """Return the speed-up: green for a gain, red for a loss, nothing where there is no cost."""
    if not before and not after:
        return Text()
    gain = before / after if after else math.inf
    style = "green" if gain >= 1.005 else "red" if gain <= 0.995 else "dim"
    return Text(times(gain), style)


def _bound(layer: Layer) -> str:
    """Return the cause that bounds the compiled layer."""
    return "" if layer.compiled.bound == "none" else layer.compiled.bound


def _utilisation(row: Row) -> Text:
    """Return the used share of the peak, for what multiplies."""
    return Text(f"{100 * row.utilisation:.0f}%" if row.macs[1] else "")


def _decision(layer: Layer, notes: dict[str, int]) -> Text:
    """Return the decision and the number of its reason below the table."""
    number = f" {notes[layer.reason]}" if layer.reason else ""
    return Text.assemble((layer.decision, DECISION_STYLES[layer.decision]), (number, "dim"))
