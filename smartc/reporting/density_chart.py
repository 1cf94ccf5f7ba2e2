"""The picture of what each layer kept over the steps of learning: a heat map, as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby, pairwise

from smartc.reporting.chart import WIDTH, layer_name
from smartc.reporting.steps import StepAxis, moments
from smartc.results.figures import Learning
from smartc.results.formats import percent

# Pixels: as high as reads well for few layers, as low as can be told apart for many.
_ABOVE, _HEIGHT, _HIGHEST, _LOWEST, _TEXT = 24, 1000, 22, 4, 13
# Shades from nothing to everything.
_SHADES = 20


def density_chart(learning: Learning) -> str:
    """Return the SVG with a row per layer in which colour is the share that was kept; nothing without layers."""
    if not learning.layers:
        return ""
    axis, row = StepAxis.of(learning), _row_height(len(learning.layers))
    bottom = _ABOVE + row * len(learning.layers)
    drawn = moments(learning)
    edges = _edges([moment.step for moment in drawn], axis)
    body = [
        f'<text x="{axis.left:.1f}" y="{_ABOVE - 7}">share kept of each layer</text>',
        f'<rect class="empty" x="{axis.left:.1f}" y="{_ABOVE}" width="{axis.right - axis.left:.1f}" '
        f'height="{bottom - _ABOVE}"/>',
        *_cells([moment.density for moment in drawn], edges, row),
        *axis.end_of_search(_ABOVE, bottom),
    ]
    for index, name in enumerate(learning.layers):
        body += _layer(name, (drawn[0].density[index], drawn[-1].density[index]), axis, (index, row))
    title = f"Share kept of each of {len(learning.layers)} layers over {learning.steps} steps"
    return "\n".join([f'<svg viewBox="0 0 {WIDTH} {bottom + 8}" role="img" aria-label="{title}">', *body, "</svg>"])


def _row_height(layers: int) -> int:
    """Return the pixels of a row."""
    return min(max(_HEIGHT // layers, _LOWEST), _HIGHEST)


def _edges(steps: Sequence[int], axis: StepAxis) -> list[float]:
    """Return where the cell of each moment begins and the last one ends: halfway between the steps."""
    middles = [(before + after) / 2 for before, after in pairwise(steps)]
    return [axis.left, *(axis.x(middle) for middle in middles), axis.right]


def _cells(densities: Sequence[Sequence[float]], edges: Sequence[float], row: int) -> Iterator[str]:
    """Yield a path per shade over all cells that have it, those side by side as one."""
    paths: dict[int, list[str]] = {}
    for index, layer in enumerate(zip(*densities, strict=True)):
        y, place = _ABOVE + index * row, 0
        for shade, cells in groupby(_shade(density) for density in layer):
            after = place + len(list(cells))
            begin, end = f"{edges[place]:.1f}", f"{edges[after]:.1f}"
            paths.setdefault(shade, []).append(f"M{begin} {y}H{end}v{row}H{begin}z")
            place = after
    for shade in sorted(paths.keys() - {0}):
        yield f'<path class="kept" fill-opacity="{shade / _SHADES:g}" d="{"".join(paths[shade])}"/>'


def _shade(density: float) -> int:
    """Return the shade of a share; only nothing has none."""
    return min(max(math.ceil(density * _SHADES), 0), _SHADES) if math.isfinite(density) else 0


def _layer(name: str, kept: tuple[float, float], axis: StepAxis, place: tuple[int, int]) -> Iterator[str]:
    """Yield a layer's tooltip, and its name and its share where there is room for them.

    Args:
        name: The layer.
        kept: Its share at the first and at the last moment.
        axis: The steps.
        place: The number of its row, and the pixels of a row.
    """
    index, row = place
    y = _ABOVE + index * row
    first, last = (percent(share) for share in kept)
    yield (
        f'<g class="layer"><title>{escape(name)}\n{first} → {last} kept</title>'
        f'<rect class="hit" x="{axis.left:.1f}" y="{y}" width="{axis.right - axis.left:.1f}" height="{row}"/></g>'
    )
    if index % math.ceil(_TEXT / row) == 0:
        base = y + row / 2 + 4
        yield f'<text x="{axis.left - 10:.1f}" y="{base:g}" text-anchor="end">{escape(layer_name(name))}</text>'
        yield f'<text class="quiet" x="{axis.right + 8:.1f}" y="{base:g}">{last}</text>'
