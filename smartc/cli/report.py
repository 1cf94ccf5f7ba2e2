"""``smartc report``: the report of a build on the terminal, or as CSV, JSON or HTML."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from smartc.artifact.manifest import check_files
from smartc.cli.terminal import output
from smartc.core.regular_file import read_regular
from smartc.core.write_file import write_file
from smartc.results.report import Report


def run(arguments: argparse.Namespace) -> None:
    """Print the report, or write the page."""
    report = read_report(arguments.build)
    if arguments.csv:
        _hand_out(report.to_csv(), arguments.csv)
    elif arguments.json:
        _hand_out(read_regular(Path(arguments.build) / "report.json").decode(), arguments.json)
    elif arguments.html:
        from smartc.reporting.html_page import render_html

        write_file(arguments.html, render_html(report).encode(errors="replace"))
    else:
        from smartc.reporting.terminal import render_terminal

        render_terminal(report, output(), arguments.all)


def _hand_out(text: str, file: str) -> None:
    """Write a text to a file, or print it where that is ``-``."""
    if file == "-":
        sys.stdout.write(text)
    else:
        write_file(file, text.encode())


def read_report(folder: str) -> Report:
    """Return the report of a build.

    Raises:
        UserError: The folder is no build, or its report is missing or changed.
    """
    check_files(folder, "report.json")
    return Report.load(Path(folder) / "report.json")
