"""The HTML report stands alone, escapes what it is given and shows every layer."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from itertools import chain

import pytest

from smartc.reporting.html_page import render_html
from smartc.results.report import Report
from tests.support.page import Page
from tests.support.synthetic_report import residual_report


def _chart(page: str) -> ElementTree.Element:
    """Return the picture, parsed."""
    return ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + len("</svg>")])


def test_stands_alone() -> None:
    text = render_html(residual_report())
    page = Page(text)
    assert page.open == []
    assert not {"src", "href", "srcset", "action"} & {name for name, _ in page.attributes}
    assert not re.search(r"https?:|url\(|@import", text)
    assert "default-src 'none'" in text
    assert "$" not in text.replace("${", "")


@pytest.mark.parametrize("blocks", [1, 3, 25])
def test_a_row_and_a_bar_per_layer(blocks: int) -> None:
    report = residual_report(blocks)
    text = render_html(report)
    body = text[text.index("</thead><tbody>") : text.index("</tbody>")]
    assert re.findall(r'<tr><th scope="row" title="([^"]*)"', body) == [layer.name for layer in report.layers]
    timed = [layer for layer in report.layers if layer.dense.ms]
    groups = _chart(text).findall("g")
    assert len(groups) == len(timed)
    for group, layer in zip(groups, timed, strict=True):
        before, after = (float(rect.attrib["width"]) for rect in group.findall("rect")[1:])
        assert after / before == pytest.approx(layer.compiled.ms / layer.dense.ms, abs=0.05 if before < 1 else 0.01)
    assert "Not drawn, as they take no time: 1 of the layers." in text


def test_says_what_matters() -> None:
    texts = " ".join(chain.from_iterable(Page(render_html(residual_report())).texts.values()))
    for part in (
        "Time per layer, simulated",
        "0.493 ms",
        "was 1.07 ms",
        "2.17x",
        "2 of 2",
        "skip 8 x 8 weight tiles that are all zero",
        "0.543 ms if no zero tile were skipped",
        "91.7 % → 90.5 % (-1.2 points) on 1000 inputs of fashion-mnist-test.npz",
        "cosine 0.9923",
        "its input is read twice",
        "3.9e-7",
        "1e-4",
        "142 kB",
    ):
        assert part in texts


def test_escapes_every_text() -> None:
    evil = "<script>alert('&')</script>\"$x"
    report = residual_report(1)
    layers = tuple(replace(layer, name=evil, op=evil, reason=evil) for layer in report.layers)
    remarks = (replace(report.remarks[0], where=evil, text=evil),)
    verify = (replace(report.verify[0], stage=evil, inputs=evil),)
    evaluation = report.evaluation and replace(report.evaluation, metric=evil, source=evil)
    odd = replace(report, model=evil, target=evil, assumption=evil, layers=layers, verify=verify)
    odd = replace(odd, remarks=remarks, evaluation=evaluation, artifacts={evil: 1}, seconds={evil: 1.0})
    odd = replace(odd, provenance=evil, agreement=replace(report.agreement, source=evil), smartc=evil)
    text = render_html(replace(odd, budget=replace(report.budget, kind=evil, asked=evil, reached=evil)))
    assert text.count("<script>") == 1
    assert "alert('" not in text
    assert Page(text).open == []
    assert _chart(text).findall("g")


def _with_bound(report: Report, bound: str) -> Report:
    layers = [replace(layer, compiled=replace(layer.compiled, bound=bound)) for layer in report.layers]
    return replace(report, layers=tuple(layers))


@pytest.mark.parametrize("bound", ["compute", "output", "memory", "overhead"])
def test_legend_names_the_bounds_that_occur(bound: str) -> None:
    text = render_html(_with_bound(residual_report(1), bound))
    assert re.findall(r"after, bound by (\w+)", text) == [bound]


def test_unknown_bound_is_grey() -> None:
    text = render_html(_with_bound(residual_report(1), 'x" onload="y'))
    assert 'onload="y' not in text
    assert '<rect class="none"' in text


def test_sides_that_fail_or_lack_are_said() -> None:
    report = residual_report(1)
    failed = replace(report.verify[0], max_rel_error=float("nan"))
    text = render_html(replace(report, verify=(failed,), evaluation=None, remarks=()))
    assert '<td class="bad">FAILED</td><td class="n">n/a</td>' in text
    assert "Same top-1" in text
    assert "<h2>Remarks</h2>" not in text


def test_no_layers() -> None:
    assert Page(render_html(replace(residual_report(1), layers=()))).open == []
