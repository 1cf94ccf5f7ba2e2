"""Draw a block of layers as SVG: a box for each layer, in rows by the longest way to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from smartc.reporting.explain_blocks import Block
from smartc.reporting.explain_boxes import Box, group_names
from smartc.results.formats import shortened

# Pixels, which are not scaled.
WIDTH, HEIGHT, GAP, STEP, MARGIN = 236, 62, 40, 96, 24
# How far past the boxes a line goes that passes some.
PAST = 16
# Colours of groups that the styles have.
HUES = 24
CHARACTERS = 30
Place = tuple[float, float]


def draw_block(block: Block, boxes: Sequence[Box]) -> str:
    """Return the picture of a block."""
    rows = _rows(block, boxes)
    widest = max(len(row) for row in rows)
    places: dict[int, Place] = {}
    for depth, row in enumerate(rows):
        left = MARGIN + (widest - len(row)) * (WIDTH + GAP) / 2
        places |= {one: (left + at * (WIDTH + GAP), 30.0 + depth * STEP) for at, one in enumerate(row)}
    width, height = widest * (WIDTH + GAP) - GAP + 2 * MARGIN, 30 + len(rows) * STEP - (STEP - HEIGHT) + MARGIN
    title = escape(f"{block.name or 'layers'}: {len(block.places)} layers")
    head = f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" aria-label="{title}">'
    edges = (edge for place in block.places for edge in _edges(boxes, place, places))
    drawn = (_drawn(boxes[place], place, *places[place], block.name) for place in block.places)
    return "\n".join([head, *edges, *drawn, "</svg>"])


def one_column() -> int:
    """Return the width of a picture in which no two layers stand side by side."""
    return WIDTH + 2 * MARGIN


def _rows(block: Block, boxes: Sequence[Box]) -> list[list[int]]:
    """Return the layers of each row; within a row those stand side by side whose sources do."""
    inside = set(block.places)
    depth: dict[int, int] = {}
    for place in block.places:
        depth[place] = max(
            (depth[one] + 1 for one in boxes[place].sources if one in depth and one in inside), default=0
        )
    rows: list[list[int]] = [[] for _ in range(max(depth.values()) + 1)]
    for place in block.places:
        rows[depth[place]].append(place)
    at: dict[int, float] = {}
    for row in rows:
        row.sort(key=lambda place: _mean([at[one] for one in boxes[place].sources if one in at]))
        at |= {place: index - len(row) / 2 for index, place in enumerate(row)}
    return rows


def _mean(values: Sequence[float]) -> float:
    """Return the mean, 0 where there are no values."""
    return sum(values) / len(values) if values else 0.0


def _edges(boxes: Sequence[Box], place: int, places: dict[int, Place]) -> Iterator[str]:
    """Yield the lines into a layer: from others of the block, and one from all that is outside of it."""
    x, y = places[place]
    middle = x + WIDTH / 2
    for source in boxes[place].sources:
        if source in places:
            yield f'<path class="edge" d="{_line(*places[source], x, y)}"/>'
    outside = [boxes[source].name for source in boxes[place].sources if source not in places]
    outside += [f"input {name}" for name in boxes[place].inputs]
    if outside:
        text = f"from {', '.join(outside)}"
        yield f'<path class="edge" d="M{middle:.0f} {y - 16:.0f} V{y:.0f}"/>'
        yield (
            f'<text class="quiet from" x="{x:.0f}" y="{y - 6:.0f}"><title>{escape(text)}</title>'
            f"{escape(shortened(text, CHARACTERS // 2 - 1))}</text>"
        )


def _line(left: float, top: float, x: float, y: float) -> str:
    """Return the way from one box to another, given where each begins: straight down, or past the boxes between."""
    if y - top <= STEP:
        start, end, half = left + WIDTH / 2, x + WIDTH / 2, (y - top - HEIGHT) / 2
        aside = end - start
        return f"M{start:.0f} {top + HEIGHT:.0f} c0 {half:.0f} {aside:.0f} {half:.0f} {aside:.0f} {2 * half:.0f}"
    right, start, end = max(left, x) + WIDTH + PAST, top + HEIGHT - 16, y + 16
    return f"M{left + WIDTH:.0f} {start:.0f} H{right - 8:.0f} q8 0 8 8 V{end - 8:.0f} q0 8 -8 8 H{x + WIDTH:.0f}"


def _drawn(box: Box, place: int, x: float, y: float, block: str) -> str:
    """Return the drawing of one layer."""
    name = box.name.removeprefix(f"{block}.") if block else box.name
    what = " ".join(filter(None, (box.op, box.weight)))
    fused = f"{box.name} (with {', '.join(box.fused)})" if box.fused else box.name
    kind = "stays" if box.stays else "plain" if not box.weight else "goes"
    lines = [
        f'<g class="box {kind}" data-box="{place}" data-groups="{" ".join(map(str, {*box.reads, *box.owns}))}">',
        f"<title>{escape(f'{fused}: {box.reason}')}</title>",
        f'<rect class="body" x="{x:.0f}" y="{y:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="7"/>',
        f'<text class="name" x="{x + 10:.0f}" y="{y + 18:.0f}">{escape(shortened(name, CHARACTERS))}</text>',
        f'<text class="quiet" x="{x + 10:.0f}" y="{y + 34:.0f}">{escape(shortened(what, CHARACTERS + 4))}</text>',
        *_swatches(box, x + 10, y + 42),
        "</g>",
    ]
    return "\n".join(lines)


def _swatches(box: Box, x: float, y: float) -> Iterator[str]:
    """Yield the colours and names of the groups that a layer reads and owns, or the word that it stays."""
    if box.stays:
        yield f'<text class="quiet" x="{x:.0f}" y="{y + 12:.0f}">stays</text>'
        return
    sides = (
        (("", box.reads), ("→ ", box.owns)) if box.weight and box.reads != box.owns else (("", box.reads or box.owns),)
    )
    for before, groups in sides:
        if groups:
            text = f"{before}{group_names(groups)}"
            square = f'x="{x:.0f}" y="{y + 2:.0f}" width="11" height="11" rx="2"'
            yield f'<rect class="group {hue(groups[0])}" {square}/>'
            yield f'<text class="quiet" x="{x + 16:.0f}" y="{y + 12:.0f}">{escape(text)}</text>'
        x += 106


def hue(group: int) -> str:
    """Return the class of a group's colour; those of neighbours differ."""
    return f"h{group % HUES}"
