"""Texts from outside stay texts: on a terminal, in CSV and in HTML, whatever a layer, a model or a folder is called."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import smartc
from smartc.cli.main import main
from smartc.cli.terminal import output
from smartc.reporting.html_page import render_html
from smartc.reporting.terminal import render_terminal
from smartc.results.report import Report
from tests.support.small_networks import SHAPE, small
from tests.support.synthetic_report import residual_report

FOREIGN = "a[/nope]:smile:\x1b[2J\x07\u202eb<script>&"
SHOWN = "a[/nope]:smile:?[2J??b<script>&"


def _named(name: str) -> Report:
    """Return a report in which everything that can be named has a foreign name."""
    report = residual_report()
    layers = tuple(replace(layer, name=name, op=name, reason=name) for layer in report.layers)
    return replace(report, model=name, target=name, layers=layers)


def test_no_text_is_an_order_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    render_terminal(_named(FOREIGN), output(), show_all=True)
    output().say(FOREIGN)
    printed = capsys.readouterr().out
    assert SHOWN in printed
    assert not any(control in printed for control in ("\x1b", "\x07", "\u202e"))


def test_html_has_no_tags_of_others() -> None:
    page = render_html(_named(FOREIGN))
    assert "<script>&" not in page
    assert "&lt;script&gt;&amp;" in page


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_csv_has_no_formulas(name: str) -> None:
    rows = list(csv.DictReader(io.StringIO(_named(name).to_csv(), newline="")))
    assert {row[column] for row in rows for column in ("name", "op", "reason")} == {"'" + name.replace("\r", " ")}
    assert all(float(row["dense_ms"]) >= 0 for row in rows)


def test_a_folder_may_be_called_like_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "q[/nope]"
    smartc.compile(small(), torch.zeros(2, *SHAPE), target="npu-8x8", backends=("pt2",)).save(folder)
    for command in (["compare", str(folder), str(folder)], ["explain", str(folder)], ["report", str(folder)]):
        assert main(command) == 0
    assert "q[/nope]" in capsys.readouterr().out.replace("\n", "")


def test_a_folder_whose_name_is_no_text_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = f"{tmp_path}/b\udcff"
    for command in (["report", folder], ["verify", folder], ["run", folder, "--input", "x.npz"]):
        assert main(command) == 2
        fact = "its name has bytes that are no characters of UTF-8. Give the folder another name."
        assert capsys.readouterr().err == f"smartc: {tmp_path}/b?: {fact}\n"
