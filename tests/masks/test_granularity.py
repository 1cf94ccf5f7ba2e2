"""Granularity: what the user writes for it."""

from __future__ import annotations

import pytest

from smartc.core.errors import UserError
from smartc.masks.granularity import Granularity, parse_granularity
from smartc.targets.target import load_target

NPU, DENSE = load_target("npu-8x8"), load_target("npu-8x8-dense")
CHOICES = "auto, channel, block, RxC such as 16x8, RxC/shared, or n:m such as 2:4"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("channel", Granularity("channel")),
        ("block", Granularity("block", 8, 8)),
        ("auto", Granularity("block", 8, 8)),
        ("16x4", Granularity("block", 16, 4)),
        ("1x1/shared", Granularity("block", 1, 1, per_tap=False)),
        ("2:4", Granularity("n:m", 2, 4)),
        ("1:16", Granularity("n:m", 1, 16)),
    ],
)
def test_is_what_was_written(text: str, expected: Granularity) -> None:
    found = parse_granularity(text, NPU)
    assert found == expected
    assert parse_granularity(str(found), NPU) == found


def test_auto_is_what_pays_on_the_target() -> None:
    assert parse_granularity("auto", DENSE) == Granularity("channel")
    assert parse_granularity("block", DENSE).kind == "block"
    assert parse_granularity("auto", load_target("npu-16x16")) == Granularity("block", 16, 16)


@pytest.mark.parametrize(
    "text", ["", "blocks", "0x8", "8x0", "8x8/own", "8 x 8", "4:4", "0:4", "5:4", "-1:4", "2:4:8", "٢:٤", "99999x1"]
)
def test_refuses_what_is_none(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_granularity(text, NPU)
    assert str(caught.value) == f"granularity={text!r}: not known. Choose one of {CHOICES}."
