"""Numbers, shapes and names read as meant."""

from __future__ import annotations

import math

import pytest

from smartc.results.formats import (
    count,
    listing,
    milliseconds,
    operator,
    scientific,
    shape_change,
    shortened,
    significant,
    size,
    time_scale,
    times,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0571, "0.0571"), (9.999, "10.0"), (1.234, "1.23"), (1234.4, "1234"), (1e-7, "1.00e-07")],
)
def test_significant(value: float, text: str) -> None:
    assert significant(value) == text


def test_numbers_that_are_none() -> None:
    assert (significant(math.nan), significant(math.inf), scientific(math.nan)) == ("n/a", "infinite", "n/a")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (1000, "1.00k"), (999_999, "1.00M"), (31_040_000, "31.0M"), (4_089e6, "4.09G")],
)
def test_count(value: int, text: str) -> None:
    assert count(int(value)) == text


@pytest.mark.parametrize(("value", "text"), [(3.9e-7, "3.9e-7"), (1e-10, "1e-10"), (0.0, "0")])
def test_scientific(value: float, text: str) -> None:
    assert scientific(value) == text


def test_units() -> None:
    assert (size(512), size(36_864)) == ("512 B", "36.9 kB")
    assert (milliseconds(1.2345), milliseconds(0.0565)) == ("1.23 ms", "56.5 µs")
    assert (times(2), times(math.inf), times(123.4)) == ("2.00x", "free", "123x")


def test_time_scale() -> None:
    short, long = time_scale(0.0565), time_scale(12.5)
    assert (short.unit, short.text(0.0565), short.text(0.00001), short.text(0)) == (
        "µs",
        "56.5",
        "<0.1",
        "0.0",
    )
    assert (long.unit, long.text(12.5), long.text(123.4)) == ("ms", "12.5", "123")
    assert time_scale(0).text(0) == "0.00"


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ((1, 64, 56, 56), (1, 32, 56, 56), "64→32x56x56"),
        ((64, 56, 56), (64, 56, 56), "64x56x56"),
        ((1,), (1,), "1"),
        ((2, 10), (2, 10), "2x10"),
        ((1, 64, 1, 1), (1, 32), "1x64x1x1→1x32"),
    ],
)
def test_shape_change(before: tuple[int, ...], after: tuple[int, ...], text: str) -> None:
    assert shape_change(before, after) == text


@pytest.mark.parametrize(
    ("op", "weight", "text"),
    [
        ("conv2d", (8, 8, 3, 3), "conv 3x3"),
        ("conv1d", (8, 8, 5), "conv 5"),
        ("linear", (8, 8), "linear"),
        ("adaptive_avg_pool2d", None, "avg_pool"),
    ],
)
def test_operator(op: str, weight: tuple[int, ...] | None, text: str) -> None:
    assert operator(op, weight) == text


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (40, "features.denseblock4.denselayer16.conv2"),
        (32, "f.denseblock4.denselayer16.conv2"),
        (24, "f.d4.denselayer16.conv2"),
        (14, "f.d4.d16.conv2"),
        (8, "…6.conv2"),
    ],
)
def test_shortened(width: int, text: str) -> None:
    assert shortened("features.denseblock4.denselayer16.conv2", width) == text
    assert len(text) <= width


def test_listing() -> None:
    assert listing(["a", "b", "c"], 3) == "a, b, c"
    assert listing(["a", "b", "c"], 2) == "a, b and 1 more"
