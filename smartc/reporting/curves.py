"""The picture of learning: loss, temperature and share of fractional masks over the steps, as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from smartc.reporting.chart import WIDTH, round_step
from smartc.reporting.steps import StepAxis, moments
from smartc.results.figures import Learning
from smartc.results.formats import percent, significant

# Pixels.
_ABOVE, _BETWEEN, _BELOW = 24, 32, 24
_MOST_LINES = 4
# Losses that span a larger factor are drawn on a logarithmic scale.
_LINEAR_SPAN = 20

Point = tuple[int, float]


@dataclass(frozen=True)
class _Scale:
    """Hold the values at the bottom and the top of a panel, or their logarithms, and the step between lines."""

    low: float
    high: float
    step: float
    logarithmic: bool

    def share(self, value: float) -> float:
        """Return the height of a value, 0 to 1."""
        place = math.log10(value) if self.logarithmic else value
        return (place - self.low) / (self.high - self.low)

    def lines(self) -> Iterator[float]:
        """Yield the values that have a line."""
        for index in range(round((self.high - self.low) / self.step) + 1):
            place = self.low + index * self.step
            yield 10.0**place if self.logarithmic else place


@dataclass(frozen=True)
class _Panel:
    """Hold one curve: its title, class, points and scale, how its values are written, and its height in pixels."""

    title: str
    style: str
    points: Sequence[Point]
    scale: _Scale
    text: Callable[[float], str]
    height: int


def learning_curves(learning: Learning) -> str:
    """Return the SVG of the curves over the steps, one below the other; an empty text where there is none."""
    axis, panels = StepAxis.of(learning), list(_panels(learning))
    if not panels:
        return ""
    body: list[str] = []
    y = _ABOVE
    for index, panel in enumerate(panels):
        body += [*axis.end_of_search(y, y + panel.height, label=index == 0), *_drawn(panel, axis, y)]
        y += panel.height + _BETWEEN
    bottom = y - _BETWEEN
    body += axis.labels(bottom)
    title = f"{', '.join(panel.title for panel in panels)} over {learning.steps} steps"
    head = f'<svg viewBox="0 0 {WIDTH} {bottom + _BELOW}" role="img" aria-label="{title}">'
    return "\n".join([head, *body, "</svg>"])


def _panels(learning: Learning) -> Iterator[_Panel]:
    """Yield the curves that there are."""
    drawn = moments(learning)
    losses = _known((moment.step, moment.loss) for moment in drawn)
    if losses:
        scale = _scale_of([loss for _, loss in losses])
        title = "loss, logarithmic" if scale.logarithmic else "loss"
        yield _Panel(title, "loss", losses, scale, significant, 150)
    heats = [(step, heat) for step, heat in _known((m.step, m.temperature) for m in drawn) if heat > 0]
    if heats:
        scale = _logarithmic([heat for _, heat in heats])
        yield _Panel("temperature, logarithmic", "temperature", heats, scale, significant, 90)
    shares = _known((moment.step, moment.fractional) for moment in drawn)
    if any(share for _, share in shares):
        scale = _linear([0.0, *(share for _, share in shares)])
        yield _Panel("share of fractional masks", "fractional", shares, scale, percent, 90)


def _known(points: Iterator[tuple[int, float | None]]) -> list[Point]:
    """Return the points whose value is a number."""
    return [(step, value) for step, value in points if value is not None and math.isfinite(value)]


def _scale_of(values: Sequence[float]) -> _Scale:
    """Return a logarithmic scale for values of very different size, else a linear one."""
    low, high = min(values), max(values)
    return _logarithmic(values) if low > 0 and high > _LINEAR_SPAN * low else _linear(values)


def _linear(values: Sequence[float]) -> _Scale:
    """Return the scale from a round value below to a round value above."""
    low, high = min(values), max(values)
    # Values that differ by less than their rounding are drawn as one.
    if high - low <= 1e-9 * abs(high):
        margin = abs(high) / 2 or 0.5
        low, high = low - margin, high + margin
    step = round_step(high - low, _MOST_LINES)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return _Scale(first * step, last * step, step, False)


def _logarithmic(values: Sequence[float]) -> _Scale:
    """Return the scale in whole powers of ten."""
    low, high = math.floor(math.log10(min(values)) + 1e-9), math.ceil(math.log10(max(values)) - 1e-9)
    step = math.ceil(max(high - low, 1) / _MOST_LINES)
    return _Scale(low, low + step * math.ceil(max(high - low, 1) / step), step, True)


def _drawn(panel: _Panel, axis: StepAxis, top: int) -> Iterator[str]:
    """Yield the lines of a panel with their values, its curve and the last value."""
    bottom = top + panel.height
    yield f'<text x="{axis.left:.1f}" y="{top - 7}">{panel.title}</text>'
    for value in panel.scale.lines():
        y = bottom - panel.height * panel.scale.share(value)
        yield f'<line class="grid" x1="{axis.left:.1f}" x2="{axis.right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        label = _plain(panel.text(value))
        yield f'<text class="quiet" x="{axis.left - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
    places = [
        (axis.x(step), bottom - panel.height * min(max(panel.scale.share(value), 0.0), 1.0))
        for step, value in panel.points
    ]
    # A curve of one point is a dot, because its ends are round.
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places) + ("h0" if len(places) == 1 else "")
    x, y = places[-1]
    yield f'<path class="curve {panel.style}" d="M{path}"/>'
    yield f'<text class="last" x="{x + 8:.1f}" y="{y + 4:.1f}">{panel.text(panel.points[-1][1])}</text>'


def _plain(number: str) -> str:
    """Return a number without zeros at its end, as round ones are written."""
    head, space, unit = number.partition(" ")
    return (head.rstrip("0").rstrip(".") if "." in head else head) + space + unit
