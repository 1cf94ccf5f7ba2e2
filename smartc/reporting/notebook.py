"""What a notebook shows of a report: its head and its picture, with styles that touch nothing else there."""

from __future__ import annotations

import re
from html import escape

from smartc.reporting.html_page import render_summary, stylesheet
from smartc.results.report import Report, notebook_view

_SCOPE = "smartc-report"
_SELECTORS = re.compile(r"[^{};]+(?=\{)")


@notebook_view
def render_in_notebook(report: Report) -> str:
    """Return the head and the picture of a report as one element that needs nothing else."""
    return _element(render_summary(report))


def render_note(text: str) -> str:
    """Return a text in place of a report that is not there yet."""
    return _element(f"<p>{escape(text)}</p>")


def _element(content: str) -> str:
    """Return an element whose styles are its own."""
    style = f"<style>\n{_SELECTORS.sub(_scoped, stylesheet())}</style>"
    return f'<div class="{_SCOPE}" style="padding: 12px 16px">\n{style}\n{content}\n</div>'


def _scoped(selectors: re.Match[str]) -> str:
    """Return the selectors of a rule for what is inside the element alone; those of the page are the element's."""
    if selectors[0].lstrip().startswith("@"):
        return selectors[0]
    each = (selector.strip() for selector in selectors[0].split(","))
    inside = (f".{_SCOPE}" if selector in (":root", "body") else f".{_SCOPE} {selector}" for selector in each)
    return f"\n{', '.join(inside)} "
