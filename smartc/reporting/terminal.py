"""The report on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from smartc.core.brief import harmless
from smartc.reporting.facts import device, facts, grouped_reasons, grouped_remarks, spent, verification_text, warnings
from smartc.reporting.layers import Row, fold_cheap, layer_table
from smartc.results.formats import listing, size
from smartc.results.report import Report, Verification

NAMES_PER_REASON = 8

# Of the same width, so that columns stay aligned on a terminal that lacks the character.
_SUBSTITUTES = str.maketrans({"→": ">", "…": "~", "µ": "u", "\u00d7": "x"})


def render_terminal(report: Report, console: Console, show_all: bool = False) -> None:
    """Print the report: totals, layers, reasons, remarks.

    It reads best from 100 columns; on fewer the table leaves columns out. ``show_all`` shows the
    layers that cost next to nothing one by one, and every name.
    """
    shown, folded = fold_cheap(report, show_all)
    groups = grouped_reasons(row.layers[0] for row in shown)
    notes = {reason: number for number, reason in enumerate(groups, start=1)}
    rows = [*shown, _others(folded)] if folded else shown
    limit = len(report.layers) if show_all else NAMES_PER_REASON
    arrow = "→" if _encodable("→", console.encoding) == "→" else "->"
    parts: list[RenderableType] = [*_warnings(report), _header(report, arrow), Text()]
    if rows:
        parts += [layer_table(report, rows, notes, console.width), Text()]
    parts += [_reasons(groups, limit), _remarks(report, limit), _ending(report, bool(folded))]
    console.print(Encodable(Group(*parts)))


class Encodable:
    """Replace what the console's encoding lacks, and what it would take for orders: a layer may be called anything."""

    def __init__(self, content: RenderableType) -> None:
        self.content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the content's segments in characters that the console can write."""
        for segment in console.render(self.content, options):
            text = segment.text if segment.control else harmless(segment.text)
            yield Segment(_encodable(text, options.encoding), segment.style, segment.control)


def _encodable(text: str, encoding: str) -> str:
    """Return the text in characters of the encoding."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_SUBSTITUTES).encode(encoding, "replace").decode(encoding)
    return text


def _others(folded: Sequence[Row]) -> Row:
    """Return the folded rows as one."""
    return Row(f"{len(folded)} others", tuple(row.layers[0] for row in folded))


def _header(report: Report, arrow: str) -> Panel:
    """Return the totals of the network, a line each."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    grid.add_row("target", Text(device(report)))
    for fact in facts(report):
        grid.add_row(Text(fact.label), Text(fact.text.replace("→", arrow), "bold" if fact.label == "latency" else ""))
    for verification in report.verify:
        grid.add_row("verified", _verification(verification))
    grid.add_row("assuming", Text(report.assumption, "dim"))
    title = Text.assemble((report.model, "bold"), f" on {report.target}, by smartc {report.smartc}")
    return Panel(grid, title=title, title_align="left", border_style="dim")


def _warnings(report: Report) -> list[Text]:
    """Return the warnings, a line each that cannot be missed."""
    return [Text.assemble(("WARNING", "bold white on red"), (f" {text}", "bold red")) for text in warnings(report)]


def _verification(verification: Verification) -> Text:
    """Return one stage: green if it passed."""
    verdict = ("ok", "green") if verification.passed else ("FAILED", "bold red")
    return Text.assemble(f"{verification.stage} ", verdict, f": {verification_text(verification)}")


def _reasons(groups: Mapping[str, Sequence[str]], limit: int) -> RenderableType:
    """Return the numbered reasons with the layers that share each."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(justify="right", style="dim")
    grid.add_column()
    for number, (reason, names) in enumerate(groups.items(), start=1):
        grid.add_row(str(number), Text.assemble(reason, (f": {listing(names, limit)}", "dim")))
    return grid


def _remarks(report: Report, limit: int) -> RenderableType:
    """Return the remarks, those of the same text together."""
    groups = grouped_remarks(report)
    lines = [
        Text.assemble(("remark ", "dim"), (f"{listing(places, limit)}: ", "yellow"), text)
        for text, places in groups.items()
    ]
    return Group(*lines)


def _ending(report: Report, folded: bool) -> Text:
    """Return the lines below the table: its key, the files with their sizes, and the stages with their times."""
    others = "; others: layers without weights below 1 % of the time, --all lists them" if folded else ""
    reading = f"before→after, {report.latency.kind} time; bound and util are after{others}"
    sizes = ", ".join(f"{name} {size(length)}" for name, length in report.artifacts.items())
    stages = ", ".join(f"{stage} {time}" for stage, time in spent(report).items())
    return Text(
        "\n".join(filter(None, (reading, sizes and f"written: {sizes}", stages and f"CPU time spent: {stages}"))), "dim"
    )
