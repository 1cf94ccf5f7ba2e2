"""The pictures of learning show every curve and layer that there is, to scale, and survive odd figures."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from smartc.reporting.curves import learning_curves
from smartc.reporting.density_chart import density_chart
from smartc.reporting.html_page import render_html
from smartc.reporting.learning_facts import learning_section
from smartc.results.figures import Learning, LearningMoment
from tests.support.synthetic_report import learned, residual_report

TITLES = ("loss", "temperature, logarithmic", "share of fractional masks")


def _texts(svg: str) -> list[str]:
    """Return the texts of a picture."""
    return [text.text or "" for text in ElementTree.fromstring(svg).findall("text")]


def _places(svg: str, style: str) -> list[tuple[float, float]]:
    """Return the points of a curve."""
    (path,) = [path for path in ElementTree.fromstring(svg).findall("path") if style in path.attrib["class"].split()]
    pairs = re.findall(r"([\d.]+) ([\d.]+)", path.attrib["d"])
    return [(float(x), float(y)) for x, y in pairs]


def _cells(svg: str) -> dict[tuple[float, int], tuple[float, float]]:
    """Return where each cell ends and its opacity, by its left and top."""
    found = {}
    for path in ElementTree.fromstring(svg).findall("path"):
        for x, y, end in re.findall(r"M([\d.]+) (\d+)H([\d.]+)v\d+H\1z", path.attrib["d"]):
            found[float(x), int(y)] = (float(end), float(path.attrib["fill-opacity"]))
    return found


def _with(losses: list[float | None], learning: Learning | None = None) -> Learning:
    """Return moments with these losses."""
    learning = learning or learned(layers=2)
    curve = (replace(learning.curve[index], loss=loss) for index, loss in enumerate(losses))
    return replace(learning, curve=tuple(curve))


def test_page_has_the_section_only_where_something_was_learned() -> None:
    assert "<h2>Learning</h2>" not in render_html(residual_report(1))
    page = render_html(replace(residual_report(1), learning=learned(layers=4)))
    section = page[page.index("<h2>Learning</h2>") : page.index("</section>", page.index("<h2>Learning</h2>"))]
    assert section.count("<svg ") == section.count("</svg>") == 2
    assert "smart, 200 steps of 64 samples, on 640 samples of photos/, seed 7; distillation, loss 2.40" in section
    assert "on 640 samples of photos/, seed 7" in page[page.index("<h2>Facts</h2>") :]
    assert learning_section(replace(learned(), curve=())) == learning_section(None) == ""


def test_curves_are_to_scale() -> None:
    learning = learned()
    svg = learning_curves(learning)
    assert [text for text in _texts(svg) if text in TITLES] == list(TITLES)
    losses, heats = _places(svg, "loss"), _places(svg, "temperature")
    assert (len(losses), len(heats)) == (100, 75)
    steps = [moment.step for moment in learning.curve]
    for places, values in (
        (losses, [moment.loss or 0.0 for moment in learning.curve]),
        (heats, [math.log10(moment.temperature or 1) for moment in learning.curve[:75]]),
        (_places(svg, "fractional"), [moment.fractional for moment in learning.curve]),
    ):
        left, right = places[0], places[-1]
        for (x, y), step, value in zip(places, steps, values, strict=False):
            along = (step - steps[0]) / (steps[len(places) - 1] - steps[0])
            assert x == pytest.approx(left[0] + along * (right[0] - left[0]), abs=0.11)
            down = (value - values[0]) / (values[-1] - values[0])
            assert y == pytest.approx(left[1] + down * (right[1] - left[1]), abs=0.15)


def test_last_values_and_the_end_of_the_search_are_written() -> None:
    texts = _texts(learning_curves(learned()))
    for text in ("0.334", "0.00538", "0.0 %", "the search ended at step 150", "150", "step"):
        assert text in texts


def test_the_end_of_the_search_is_marked_at_the_same_step_in_every_picture() -> None:
    learning = learned(layers=5)
    marks = []
    for svg in (learning_curves(learning), density_chart(learning)):
        lines = ElementTree.fromstring(svg).findall("line")
        marks += [line.attrib["x1"] for line in lines if line.attrib["class"] == "end"]
    assert len(marks) == 4
    assert len(set(marks)) == 1
    place = [moment.step for moment in learning.curve].index(150)
    assert float(marks[0]) == pytest.approx(_places(learning_curves(learning), "loss")[place][0], abs=0.1)
    for never in (0, 1000):
        assert 'class="end"' not in learning_curves(replace(learning, search_steps=never))


def test_what_is_not_known_is_left_out() -> None:
    learning = learned()
    cold = tuple(replace(moment, temperature=None) for moment in learning.curve)
    hard = tuple(replace(moment, fractional=0.0) for moment in cold)
    assert [text for text in _texts(learning_curves(replace(learning, curve=cold))) if text in TITLES] == [
        TITLES[0],
        TITLES[2],
    ]
    assert [text for text in _texts(learning_curves(replace(learning, curve=hard))) if text in TITLES] == ["loss"]
    blind = replace(learning, curve=tuple(replace(moment, loss=None) for moment in hard))
    assert learning_curves(blind) == ""
    assert "<svg" in learning_section(blind)
    assert density_chart(replace(learning, layers=())) == ""


@pytest.mark.parametrize(
    ("losses", "title"),
    [
        ([1.0, 0.5, 0.2], "loss"),
        ([100.0, 1.0, 0.01], "loss, logarithmic"),
        ([100.0, 1.0, -0.01], "loss"),
        ([0.0, 0.0, 0.0], "loss"),
        ([3.0, 3.0, 3.0], "loss"),
        ([1e30, 1e-30, 1.0], "loss, logarithmic"),
        ([None, math.nan, 0.5], "loss"),
        ([math.inf, 2.0, 1.0], "loss"),
        ([0.7], "loss"),
    ],
)
def test_any_losses_are_drawn_within_their_panel(losses: list[float | None], title: str) -> None:
    svg = learning_curves(_with(losses))
    places = _places(svg, "loss")
    assert title in _texts(svg)
    assert len(places) == sum(loss is not None and math.isfinite(loss) for loss in losses)
    assert all(24 <= y <= 24 + 150 for _, y in places)
    assert "nan" not in svg


@pytest.mark.parametrize(("layers", "labelled"), [(1, 1), (3, 3), (45, 45), (300, 75)])
def test_a_row_per_layer_and_names_where_there_is_room(layers: int, labelled: int) -> None:
    learning = learned(layers)
    svg = density_chart(learning)
    root = ElementTree.fromstring(svg)
    titles = [group.find("title") for group in root.findall("g")]
    first, last = learning.curve[0].density, learning.curve[-1].density
    assert [title.text for title in titles if title is not None] == [
        f"{name}\n{100 * before:.1f} % → {100 * after:.1f} % kept"
        for name, before, after in zip(learning.layers, first, last, strict=True)
    ]
    assert len(set(_texts(svg)) & set(learning.layers)) == labelled
    assert float(root.attrib["viewBox"].split()[3]) < 1300
    assert len(svg) < 200_000


def test_cells_have_the_shade_of_what_was_kept_then() -> None:
    densities = [(1.0, 0.0, 0.5), (1.0, 0.0, 0.26), (0.0, 1.0, 0.26)]
    moments = [LearningMoment(step, None, None, 0.0, kept) for step, kept in zip((0, 10, 20), densities, strict=True)]
    learning = replace(learned(), layers=("a", "b", "c"), curve=tuple(moments), steps=20)
    cells = _cells(density_chart(learning))
    left, right = min(x for x, _ in cells), max(end for end, _ in cells.values())
    quarter = (right - left) / 4
    found = {
        (round((x - left) / quarter), (y - 24) // 22): (round((end - left) / quarter), shade)
        for (x, y), (end, shade) in cells.items()
    }
    assert found == {(0, 0): (3, 1.0), (3, 1): (4, 1.0), (0, 2): (1, 0.5), (1, 2): (4, 0.3)}


def test_long_curves_are_thinned_but_keep_both_ends() -> None:
    learning = learned(layers=3, steps=5000, moments=2500)
    places = _places(learning_curves(learning), "loss")
    whole = _places(learning_curves(learned(layers=3, steps=5000, moments=100)), "loss")
    assert len(places) <= 401
    assert places[0][0] == whole[0][0]
    assert places[-1][0] == pytest.approx(1160 - 76, abs=0.1)


def test_odd_curves_do_not_break_the_picture() -> None:
    learning = learned(layers=2, moments=6)
    shuffled = tuple(reversed(learning.curve))
    assert learning_section(replace(learning, curve=shuffled)).count("<path") > 3
    same = tuple(replace(moment, step=5) for moment in learning.curve)
    lost = tuple(replace(moment, density=(math.nan, 2.0), fractional=math.nan) for moment in same)
    section = learning_section(replace(learning, curve=lost, search_steps=5))
    assert section.count("</svg>") == 2
    for svg in re.findall(r"<svg.*?</svg>", section, re.S):
        assert ElementTree.fromstring(svg).attrib["role"] == "img"


def test_every_text_is_escaped() -> None:
    evil = "<script>alert('&')</script>\"$x"
    odd = replace(learned(layers=2), learner=evil, objective=evil, source=evil, precision=evil, layers=(evil, evil))
    page = render_html(replace(residual_report(1), learning=odd))
    assert page.count("<script>") == 1
    assert "alert('" not in page
