"""The sortable table of layers in the HTML report."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from html import escape
from itertools import groupby

from smartc.results.figures import SIDES, Side
from smartc.results.formats import count, percent, shape_text, size, times
from smartc.results.report import Causes, Figures, Layer, Report

Value = Callable[[Layer], "str | float"]


@dataclass(frozen=True)
class _Column:
    """Hold one column: a number sorts by its value and is written by ``text``; a string is itself.

    ``style`` is a class of all cells; ``total`` stands below the column.
    """

    group: str
    title: str
    value: Value
    text: Callable[[float], str] | None = None
    style: str = ""
    total: str = ""
    edge: bool = False


def layers_table(report: Report) -> str:
    """Return the table: a row per layer, the totals below."""
    columns = tuple(_columns(report))
    rows = (_row(layer, columns) for layer in report.layers)
    foot = "".join(f'<td class="{_classes(column)}">{escape(column.total)}</td>' for column in columns)
    return "\n".join(
        [
            '<table id="layers">',
            "<thead>",
            *_heads(columns),
            "</thead><tbody>",
            *rows,
            f'</tbody><tfoot><tr><th scope="row">total</th>{foot}</tr></tfoot></table>',
        ]
    )


def _heads(columns: Sequence[_Column]) -> Iterator[str]:
    """Yield the row of groups and the row of titles, each title a button that sorts."""
    spans = ["<th></th>"]
    for (group, style), members in groupby(columns, key=lambda column: (column.group, column.style)):
        span = len(list(members))
        kind = " ".join(filter(None, (style, "edge" if group else "")))
        spans.append(f'<th colspan="{span}" class="{kind}">{escape(group)}</th>')
    yield f"<tr>{''.join(spans)}</tr>"
    titles = ['<th data-column="0"><button>layer</button></th>']
    for i, column in enumerate(columns, start=1):
        title = f"<button>{escape(column.title)}</button>"
        titles.append(f'<th data-column="{i}" class="{_classes(column)}">{title}</th>')
    yield f"<tr>{''.join(titles)}</tr>"


def _row(layer: Layer, columns: Sequence[_Column]) -> str:
    """Return the row of one layer."""
    name = escape(layer.name)
    cells = "".join(_cell(column, column.value(layer)) for column in columns)
    return f'<tr><th scope="row" title="{name}">{name}</th>{cells}</tr>'


def _cell(column: _Column, value: str | float) -> str:
    """Return one cell; a number that is none stays empty and sorts last."""
    classes = _classes(column)
    if isinstance(value, str) or column.text is None:
        return f'<td class="{classes}">{escape(str(value))}</td>'
    if math.isnan(value):
        return f'<td class="{classes}" data-v="-1"></td>'
    key = 1e300 if math.isinf(value) else value
    return f'<td class="{classes}" data-v="{key!r}">{escape(column.text(value))}</td>'


def _classes(column: _Column) -> str:
    """Return the classes of a cell: numbers to the right, a line before each group."""
    return " ".join(
        filter(
            None,
            (
                "n" if column.text else "",
                column.style,
                "edge" if column.edge else "",
                "old" if column.title == "before" else "",
            ),
        )
    )


def _columns(report: Report) -> Iterator[_Column]:
    """Yield every column but the names."""
    latency, summary, time = report.latency, report.summary, report.time_scale
    yield _Column("", "op", lambda layer: layer.op)
    yield _Column("", "decision", lambda layer: layer.decision)
    yield _Column("", "reason", lambda layer: layer.reason, style="w")
    group = f"{latency.kind} time, {time.unit}"
    yield from _both(group, lambda f: f.ms, time.precise, (latency.dense, latency.compiled))
    yield _Column(group, "gain", _gain, times, total=times(latency.speed_up))
    yield _Column(group, "share", lambda layer: report.share(layer, "compiled") or math.nan, percent)
    yield from _both("utilisation", lambda f: f.utilisation if f.macs else math.nan, percent)
    yield _Column("", "bound", _bound, edge=True)
    yield from _both("MACs", lambda f: f.macs, _count, (summary.macs.dense, summary.macs.compiled))
    weights = (summary.weight_bytes.dense, summary.weight_bytes.compiled)
    yield from _both("weight bytes", lambda f: f.weight_bytes, _size, weights)
    yield from _both("tiles computed", lambda f: f.tiles[0] if f.tiles else 0, _count)
    yield from _both("output shape", lambda f: shape_text(f.shape), style="shape")
    yield from _both("weight shape", lambda f: shape_text(f.weight_shape), style="shape")
    yield from _both("cycles", lambda f: f.cycles, _count, style="cause")
    for cause in fields(Causes):
        yield _cause(cause.name)


def _both(
    group: str,
    figure: Callable[[Figures], str | float],
    text: Callable[[float], str] | None = None,
    totals: tuple[float, float] | None = None,
    style: str = "",
) -> Iterator[_Column]:
    """Yield one figure before and after."""
    for i, side in enumerate(SIDES):
        total = text(totals[i]) if totals and text else ""
        title = ("before", "after")[i]
        yield _Column(group, title, _Of(figure, side), text, style, total, edge=i == 0)


@dataclass(frozen=True)
class _Of:
    """Take a figure from one side of a layer."""

    figure: Callable[[Figures], str | float]
    side: Side

    def __call__(self, layer: Layer) -> str | float:
        """Return the figure of that side."""
        return self.figure(getattr(layer, self.side))


def _cause(name: str) -> _Column:
    """Return the column of the cycles that one part of the device would need alone, after."""
    group = "cycles after, by cause (they overlap)"
    edge = name == fields(Causes)[0].name
    return _Column(group, name, lambda layer: getattr(layer.compiled.causes, name), _count, "cause", edge=edge)


def _bound(layer: Layer) -> str:
    """Return the cause that bounds the layer, before and after where that differs."""
    before, after = layer.dense.bound, layer.compiled.bound
    return (after if before == after else f"{before} → {after}").replace("none", "")


def _gain(layer: Layer) -> float:
    """Return the speed-up of a layer that takes time."""
    return layer.speed_up if layer.dense.ms or layer.compiled.ms else math.nan


def _count(value: float) -> str:
    """Return a count; nothing for nothing, so that what costs stands out."""
    return count(round(value)) if value else ""


def _size(value: float) -> str:
    """Return bytes; nothing for nothing."""
    return size(round(value)) if value else ""
