"""What people compile describes itself in one line, and to a notebook as a picture, without work being done for it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

import smartc
from smartc.reporting.html_page import render_html
from smartc.reporting.notebook import render_in_notebook
from smartc.results.report import Report
from tests.support.synthetic_report import residual_report

NASTY = "<script>alert(1)</script>\n\u2028&\"'$css" + "x" * 200
WIDEST = 130
HEAD = "from tests.support.synthetic_report import residual_report as make; report = make();"


def small(**options: Any) -> smartc.Compiled:
    """Return a small compiled model, not proved yet unless it is lowered."""
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    return smartc.compile(model.eval(), torch.randn(2, 3, 8, 8), target="npu-8x8", **{"backends": (), **options})


def parsed(html: str) -> ElementTree.Element:
    """Return the one element that a notebook gets."""
    return ElementTree.fromstring(html)


def test_a_report_in_one_line() -> None:
    report = residual_report()
    figures = "1.07 ms -> 0.493 ms simulated, 2.17x"
    assert repr(report) == f"Report(resnet20.pt2 on npu-8x8: {figures}; 2 of 2 stages proved)"


def test_what_is_not_proved_says_so_and_stays_so() -> None:
    compiled = small(sparsity=0.5)
    goal = "Sequential on npu-8x8: sparsity 0.5 asked, 0.500 reached"
    assert repr(compiled) == f"Compiled({goal}, not proved yet)"
    assert repr(compiled.plan) == f"Plan({goal}, by sp-lamp and channel)"
    note = compiled._repr_html_()
    assert f"{goal}. Not proved yet: that is done when the report is first asked for." in note
    assert "<svg" not in note
    parsed(note)
    assert not compiled.proved
    assert compiled.report.headline in repr(compiled)
    assert repr(compiled).endswith(", proved)")
    assert compiled._repr_html_() == compiled.report._repr_html_()


def test_what_was_saved_is_proved(tmp_path: Path) -> None:
    compiled = small()
    compiled.save(tmp_path / "build")
    loaded = smartc.load(tmp_path / "build")
    assert loaded.proved
    assert repr(loaded) == f"Compiled({compiled.report.headline}, proved)"


def test_a_traced_model_in_one_line() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    traced = smartc.trace(model, torch.randn(2, 4))
    assert repr(traced) == "TracedModel(Sequential(input: float32 Nx4): 2 calls, 15 parameters)"


def test_a_preparation_in_one_line() -> None:
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))
    search = smartc.prepare(model, torch.randn(2, 16), target="npu-8x8", granularity="4x4", steps=3, sparsity=0.25)
    goal = "Sequential on npu-8x8: sparsity 0.25 by smart and 4x4"
    assert repr(search) == f"Preparation({goal}, step 0 of 3, masks soft)"
    for _ in range(3):
        search.model(torch.randn(2, 16)).square().sum().backward()
        search.step()
    assert repr(search) == f"Preparation({goal}, step 3 of 3, masks hard)"


def test_names_from_outside_stay_on_the_line() -> None:
    layers = (nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))
    traced = replace(smartc.trace(nn.Sequential(*layers), torch.randn(2, 16)), name=NASTY)
    search = smartc.prepare(traced, target="npu-8x8", granularity="4x4", steps=1)
    compiled = smartc.compile(traced, target="npu-8x8", backends=())
    before = repr(compiled)
    shown = (repr(traced), repr(search), before, repr(compiled.plan), repr(compiled.report), repr(compiled))
    for text in shown:
        assert len(text.splitlines()) == 1
        assert len(text) <= WIDEST


def test_a_notebook_shows_the_head_and_the_picture_of_the_page() -> None:
    report = residual_report()
    html, page = report._repr_html_(), render_html(report)
    assert html == render_in_notebook(report)
    assert [child.tag for child in parsed(html)] == ["style", "header", "section", "p", "section"]
    for part in ("<header>", "<svg", 'class="caution"'):
        line = next(line for line in page.splitlines() if part in line)
        assert line in html
    assert not {"script", "link", "img"} & {element.tag for element in parsed(html).iter()}


def test_a_notebook_escapes_what_comes_from_outside() -> None:
    report = residual_report()
    layers = tuple(replace(layer, name=NASTY, reason=NASTY) for layer in report.layers)
    html = render_in_notebook(replace(report, model=NASTY, target=NASTY, assumption=NASTY, layers=layers))
    assert "<script" not in html
    heading = parsed(html).find("header/h1")
    assert heading is not None
    assert str(heading.text).startswith(NASTY)


def test_the_styles_touch_nothing_else_in_a_notebook() -> None:
    style = parsed(render_in_notebook(residual_report())).findtext("style")
    assert style is not None
    rules = [part.rpartition("}")[2].rpartition(";")[2].strip() for part in style.split("{")[:-1]]
    selectors = [selector.strip() for rule in rules if not rule.startswith("@") for selector in rule.split(",")]
    assert len(selectors) > 50
    assert [selector for selector in selectors if not selector.startswith(".smartc-report")] == []


@pytest.mark.slow
@pytest.mark.parametrize(("first", "shown"), [("", "None"), ("import smartc.artifact.compiled;", "<class 'str'>")])
def test_results_alone_show_themselves_as_text(first: str, shown: str) -> None:
    code = f"{HEAD} {first} html = report._repr_html_(); print(None if html is None else type(html))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == shown


def test_a_report_read_back_is_equal(tmp_path: Path) -> None:
    report = residual_report()
    report.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == report
