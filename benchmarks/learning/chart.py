"""The plot of a network's results: accuracy over sparsity, a panel per granularity, as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from benchmarks.learning.summary import COLUMNS, Column, Row, Section, Spread, column_name, granularity_name

# Pixels.
PANEL, HEIGHT = 300, 300
LEFT, TOP, BOTTOM, GAP = 50, 56, 40, 24
LEGEND = 290
LINE = 18
# Part of the distance between two sparsities over which learners are spread, so that their bars do not hide each other.
SPREAD = 0.5
_TICKS = 6

# Okabe and Ito's colours, which remain apart for the colour-blind; what is compared with is dashed and hollow.
_COLOURS = ("#d55e00", "#0072b2", "#009e73", "#555555", "#cc79a7", "#e69f00")


@dataclass(frozen=True)
class _Scale:
    """Hold the accuracies at the bottom and at the top of a panel."""

    low: float
    high: float

    def y(self, accuracy: float) -> float:
        """Return where an accuracy is, in pixels."""
        return TOP + HEIGHT * (self.high - accuracy) / (self.high - self.low)


def chart(section: Section, title: str) -> str:
    """Return the SVG of a section."""
    kinds = list(dict.fromkeys(row[0] for row in section.rows))
    width = LEFT + (PANEL + GAP) * len(kinds) + LEGEND
    height = max(TOP + HEIGHT + BOTTOM, TOP + LINE * (len(section.columns()) + 2))
    scale = _scale(section)
    body = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{escape(title)}: accuracy in % over sparsity</text>',
    ]
    for place, kind in enumerate(kinds):
        rows = [row for row in section.rows if row[0] == kind]
        body += _panel(section, rows, LEFT + (PANEL + GAP) * place, scale)
    return "\n".join([*body, *_legend(section, width - LEGEND + 8), "</svg>", ""])


def _spread(section: Section, row: Row, column: Column) -> Spread | None:
    """Return the accuracy of a cell."""
    return section.spread(row, column, lambda outcome: outcome.accuracy)


def _scale(section: Section) -> _Scale:
    """Return a scale that holds all means and their spreads."""
    cells = [_spread(section, row, column) for row in section.rows for column in section.columns(row)]
    spreads = [section.dense, *(cell for cell in cells if cell is not None)]
    low = min(spread.mean - spread.deviation for spread in spreads)
    high = max(spread.mean + spread.deviation for spread in spreads)
    margin = max(0.05 * (high - low), 0.002)
    return _Scale(low - margin, high + margin)


def _panel(section: Section, rows: list[Row], left: float, scale: _Scale) -> Iterator[str]:
    """Yield one granularity: axes, the dense network's accuracy, a line per learner."""
    step = PANEL / len(rows)
    yield f'<text x="{left + PANEL / 2:g}" y="{TOP - 10}" text-anchor="middle">{granularity_name(rows[0][0])}</text>'
    for tick in _ticks(scale):
        y = scale.y(tick)
        yield f'<line x1="{left:g}" x2="{left + PANEL:g}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>'
        if left == LEFT:
            label = f"{tick * 100:.1f}".removesuffix(".0")
            yield f'<text x="{left - 6:g}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
    dense = scale.y(section.dense.mean)
    line = f'x1="{left:g}" x2="{left + PANEL:g}" y1="{dense:.1f}" y2="{dense:.1f}"'
    yield f'<line {line} stroke="black" stroke-dasharray="2 3"/>'
    for place, row in enumerate(rows):
        x = left + step * (place + 0.5)
        yield f'<text x="{x:.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{row[1]:.0%}</text>'
    columns = section.columns()
    for number, column in enumerate(columns):
        shift = SPREAD * ((number + 0.5) / len(columns) - 0.5)
        places = {row: left + step * (place + 0.5 + shift) for place, row in enumerate(rows)}
        yield from _line(section, column, places, scale)


def _line(section: Section, column: Column, places: dict[Row, float], scale: _Scale) -> Iterator[str]:
    """Yield one learner's points with their spreads, joined."""
    spreads = ((x, _spread(section, row, column)) for row, x in places.items())
    points = [(x, spread) for x, spread in spreads if spread is not None]
    if not points:
        return
    path = " ".join(f"{x:.1f},{scale.y(spread.mean):.1f}" for x, spread in points)
    yield f'<polyline points="{path}" fill="none" {_stroke(column)} stroke-opacity="0.6"/>'
    colour = _colour(column)
    for x, spread in points:
        top, bottom = (scale.y(spread.mean + sign * spread.deviation) for sign in (1, -1))
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}" stroke="{colour}"/>'
        yield _dot(column, x, scale.y(spread.mean))


def _legend(section: Section, left: float) -> Iterator[str]:
    """Yield a line per learner, and one for the dense network."""
    y = TOP + 8
    yield f'<line x1="{left:g}" x2="{left + 24:g}" y1="{y}" y2="{y}" stroke="black" stroke-dasharray="2 3"/>'
    yield f'<text x="{left + 30:g}" y="{y + 4}">dense</text>'
    for number, column in enumerate(section.columns(), start=1):
        y = TOP + 8 + LINE * number
        yield f'<line x1="{left:g}" x2="{left + 24:g}" y1="{y}" y2="{y}" {_stroke(column)}/>'
        yield _dot(column, left + 12, y)
        yield f'<text x="{left + 30:g}" y="{y + 4}">{escape(column_name(column))}</text>'


def _dot(column: Column, x: float, y: float) -> str:
    """Return a point, hollow for what is compared with."""
    colour = _colour(column)
    fill = colour if column[1] == "sparsity" else "white"
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{fill}" stroke="{colour}"/>'


def _colour(column: Column) -> str:
    """Return the colour of a learner."""
    return _COLOURS[COLUMNS.index(column) % len(_COLOURS)]


def _stroke(column: Column) -> str:
    """Return how a learner's line is drawn."""
    dashes = {"sparsity": "", "macs": ' stroke-dasharray="6 3"', "latency": ' stroke-dasharray="1 3"'}
    return f'stroke="{_colour(column)}" stroke-width="2"{dashes[column[1]]}'


def _ticks(scale: _Scale) -> list[float]:
    """Return round accuracies within the scale: steps of 1, 2 or 5 times a power of ten, few of them."""
    power = 10.0 ** math.floor(math.log10((scale.high - scale.low) / _TICKS))
    step = next(size * power for size in (1, 2, 5, 10) if (scale.high - scale.low) / (size * power) <= _TICKS)
    first = math.ceil(scale.low / step)
    return [step * number for number in range(first, math.floor(scale.high / step) + 1)]
