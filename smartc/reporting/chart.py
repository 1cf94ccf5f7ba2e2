"""The picture of a report: a bar per layer before and after, as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from smartc.results.formats import TimeScale, shortened, times
from smartc.results.report import Layer, Report

BOUNDS = ("compute", "memory", "output", "overhead")

# Pixels, before the picture is scaled to the page.
WIDTH = 1160
FIGURES_WIDTH = 190
CHARACTER = 6.6
ROW = 22
TOP = 26
NAME_CHARACTERS = 38
_MOST_TICKS = 8


@dataclass(frozen=True)
class _Frame:
    """Hold the place where the bars begin and the length of a millisecond, in pixels."""

    left: float
    pixels_per_ms: float
    scale: TimeScale


def bar_chart(report: Report) -> str:
    """Return the SVG of every layer that takes time, one below the other in the order of execution."""
    layers = drawn_layers(report)
    longest = max((max(layer.dense.ms, layer.compiled.ms) for layer in layers), default=1.0)
    names = max((len(layer_name(layer.name)) for layer in layers), default=0)
    left = names * CHARACTER + 24
    frame = _Frame(left, (WIDTH - left - FIGURES_WIDTH) / longest, report.time_scale)
    height = TOP + ROW * len(layers) + 8
    body = [*_grid(frame, longest, height)]
    for i, layer in enumerate(layers):
        body += _row(layer, TOP + ROW * i, frame)
    title = f"Time of each of {len(layers)} layers before and after"
    head = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}">'
    return "\n".join([head, *body, "</svg>"])


def drawn_layers(report: Report) -> Sequence[Layer]:
    """Return the layers that take time before or after."""
    return [layer for layer in report.layers if layer.dense.ms or layer.compiled.ms]


def bound_class(bound: str) -> str:
    """Return the CSS class that colours a bound."""
    return bound if bound in BOUNDS else "none"


def layer_name(name: str) -> str:
    """Return a layer's name as it stands in a picture."""
    return shortened(name, NAME_CHARACTERS)


def _grid(frame: _Frame, longest: float, height: int) -> Iterator[str]:
    """Yield the lines at round times and their labels."""
    longest_in_unit = longest * frame.scale.factor
    step = round_step(longest_in_unit)
    for i in range(int(longest_in_unit / step + 1e-9) + 1):
        x = frame.left + frame.pixels_per_ms * i * step / frame.scale.factor
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 4}" y2="{height - 6}"/>'
        label = f"{i * step:g} {frame.scale.unit}"
        yield f'<text class="quiet" x="{x:.1f}" y="14" text-anchor="middle">{label}</text>'


def round_step(longest: float, most: int = _MOST_TICKS) -> float:
    """Return the smallest of 1, 2, 5 times a power of ten that needs at most ``most`` steps."""
    power = 10.0 ** math.floor(math.log10(longest / most))
    return next(step for step in (power, 2 * power, 5 * power, 10 * power) if longest / step <= most)


def _row(layer: Layer, y: int, frame: _Frame) -> Iterator[str]:
    """Yield one layer: its name, the time before in grey, the time after in front of it, both in figures."""
    before, after = (figures.ms * frame.pixels_per_ms for figures in (layer.dense, layer.compiled))
    base = y + ROW // 2 + 4
    yield f'<g class="row"><title>{escape(_tooltip(layer, frame.scale))}</title>'
    yield f'<rect class="hit" x="0" y="{y}" width="{WIDTH}" height="{ROW}"/>'
    yield f'<text x="{frame.left - 10:g}" y="{base}" text-anchor="end">{escape(layer_name(layer.name))}</text>'
    yield _bar("before", frame.left, y + 3, before, ROW - 6)
    yield _bar(bound_class(layer.compiled.bound), frame.left, y + 6, after, ROW - 12)
    x = frame.left + max(before, after) + 8
    yield f'<text class="quiet" x="{x:.1f}" y="{base}">{_figures(layer, frame.scale)}</text></g>'


def _bar(kind: str, x: float, y: int, width: float, height: int) -> str:
    """Return one bar."""
    return f'<rect class="{kind}" x="{x:g}" y="{y}" width="{width:.2f}" height="{height}" rx="2"/>'


def _figures(layer: Layer, scale: TimeScale) -> str:
    """Return both times and the speed-up; one time where nothing changed."""
    before, after = scale.precise(layer.dense.ms), scale.precise(layer.compiled.ms)
    if abs(layer.speed_up - 1) < 0.005:
        return f"{after} {scale.unit}"
    style = "good" if layer.speed_up > 1 else "bad"
    return f'{before} → {after} {scale.unit} <tspan class="{style}">{times(layer.speed_up)}</tspan>'


def _tooltip(layer: Layer, scale: TimeScale) -> str:
    """Return the text on a layer: its name, its times, and the decision on it with the reason."""
    after = layer.compiled
    bound = f", bound by {after.bound}" if after.bound != "none" else ""
    figures = f"{scale.precise(layer.dense.ms)} → {scale.precise(after.ms)} {scale.unit}{bound}"
    reason = f": {layer.reason}" if layer.reason else ""
    return f"{layer.name} ({layer.op})\n{figures}\n{layer.decision}{reason}"
