"""The report as one HTML file that needs nothing else: no network, no other file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from importlib.resources import files
from string import Template

from smartc.reporting.chart import BOUNDS, bar_chart, bound_class, drawn_layers
from smartc.reporting.facts import device, facts, grouped_remarks, metric_texts, spent, warnings
from smartc.reporting.html_layers import layers_table
from smartc.reporting.learning_facts import learning_section
from smartc.results.formats import count, listing, milliseconds, percent, scientific, size, times
from smartc.results.report import Change, Report


def render_html(report: Report) -> str:
    """Return the page; it follows the reader's light or dark setting and reads without scripts too."""
    body = Template(asset("report.html")).substitute(
        summary=render_summary(report),
        layers=layers_table(report),
        learning=learning_section(report.learning),
        verified=_verified(report),
        facts=table((fact.label, fact.text) for fact in facts(report)),
        remarks=_remarks(report),
        files=_files(report),
    )
    return page(f"{report.model} on {report.target}", body, stylesheet(), asset("report.js"))


def page(title: str, body: str, styles: str, script: str, data: str = "") -> str:
    """Return a page that needs no other file.

    Args:
        title: As text.
        body: What it says, as HTML.
        styles: Its style sheet.
        script: What runs once it is there.
        data: What the script reads, as JSON.
    """
    read = f'<script type="application/json" id="data">{data}</script>\n' if data else ""
    return Template(asset("page.html")).substitute(title=escape(title), body=body, css=styles, script=script, data=read)


def render_summary(report: Report) -> str:
    """Return the head of the page and its picture, to be styled by ``stylesheet``."""
    summary = Template(asset("summary.html")).substitute(
        model=escape(report.model),
        target=escape(report.target),
        device=escape(device(report)),
        version=escape(report.smartc),
        kind=escape(report.latency.kind),
        warnings="".join(f'<p class="warning" role="alert">Warning: {escape(text)}</p>\n' for text in warnings(report)),
        cards="\n".join(_cards(report)),
        caution=escape(report.assumption),
        legend=_legend(report),
        chart=bar_chart(report),
        undrawn=_undrawn(report),
    )
    return summary.rstrip("\n")


def stylesheet() -> str:
    """Return the styles of the page."""
    return asset("report.css")


def _undrawn(report: Report) -> str:
    """Return a sentence with the number of layers that the picture lacks."""
    free = len(report.layers) - len(drawn_layers(report))
    return f'<p class="quiet">Not drawn, as they take no time: {free} of the layers.</p>' if free else ""


def asset(name: str) -> str:
    """Return a file that is shipped beside this one."""
    return files("smartc").joinpath("assets", name).read_text(encoding="utf-8")


def _cards(report: Report) -> Iterator[str]:
    """Yield the figures to see first."""
    latency, summary = report.latency, report.summary
    left = latency.compiled / latency.dense if latency.dense else 1.0
    was = f"was {milliseconds(latency.dense)}"
    title = f"Latency, {latency.kind}"
    yield _card(title, milliseconds(latency.compiled), was, times(latency.speed_up), left)
    yield _count_card("Multiply-accumulates", summary.macs, count)
    yield _count_card("Weights", summary.weight_bytes, size)
    if report.evaluation:
        before, after = metric_texts(report.evaluation)
        yield _card(report.evaluation.metric.capitalize(), after, f"was {before}")
    elif report.agreement.top1 is not None:
        yield _card("Same top-1", percent(report.agreement.top1), f"on {report.agreement.inputs} inputs")
    passed = sum(verification.passed for verification in report.verify)
    yield _card("Verified", f"{passed} of {len(report.verify)}", "stages within tolerance")


def _count_card(title: str, change: Change, text: Callable[[int], str]) -> str:
    """Return the card of a count."""
    was = f"was {text(change.dense)}"
    return _card(title, text(change.compiled), was, f"{-100 * change.saved:+.0f} %", 1 - change.saved)


def _card(title: str, figure: str, below: str, gain: str = "", left: float | None = None) -> str:
    """Return one large figure, with a bar for what is left of it."""
    track = "" if left is None else f'<div class="track"><i style="width:{100 * min(left, 1):.1f}%"></i></div>'
    return (
        f'<div class="card"><h3>{escape(title)}</h3><span class="change">{escape(gain)}</span>'
        f'<div class="after">{escape(figure)}</div><div class="was">{escape(below)}</div>{track}</div>'
    )


def _legend(report: Report) -> str:
    """Return the meaning of the colours that occur."""
    found = {bound_class(layer.compiled.bound) for layer in drawn_layers(report)}
    entries = ['<span><i class="before"></i>before</span>']
    for bound in BOUNDS:
        if bound in found:
            entries.append(f'<span><i class="{bound}"></i>after, bound by {bound}</span>')
    if "none" in found:
        entries.append('<span><i class="none"></i>after</span>')
    return "".join(entries)


def table(rows: Iterable[Sequence[str]]) -> str:
    """Return a table of text whose first column names the row."""
    lines = []
    for name, *cells in rows:
        texts = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{texts}</tr>')
    return "\n".join(["<table>", *lines, "</table>"])


def _verified(report: Report) -> str:
    """Return the stages with their errors and tolerances."""
    titles = ("stage", "", "relative error", "tolerance", "absolute error", "inputs")
    lines = ["".join(f'<th scope="col">{title}</th>' for title in titles)]
    for stage in report.verify:
        verdict = '<td class="good">ok</td>' if stage.passed else '<td class="bad">FAILED</td>'
        errors = (stage.max_rel_error, stage.tolerance, stage.max_abs_error)
        numbers = "".join(f'<td class="n">{scientific(error)}</td>' for error in errors)
        name = f'<th scope="row">{escape(stage.stage)}</th>'
        lines.append(f"{name}{verdict}{numbers}<td>{escape(stage.inputs)}</td>")
    return "\n".join(["<table>", *(f"<tr>{line}</tr>" for line in lines), "</table>"])


def _remarks(report: Report) -> str:
    """Return the section of remarks, where there are any."""
    groups = grouped_remarks(report)
    if not groups:
        return ""
    rows = table((listing(places, len(places)), text) for text, places in groups.items())
    return f"<section><h2>Remarks</h2>\n{rows}\n</section>"


def _files(report: Report) -> str:
    """Return the table of the files with their sizes and of the steps with their times."""
    written = [(name, size(length)) for name, length in report.artifacts.items()]
    return table([*written, *spent(report).items()])
