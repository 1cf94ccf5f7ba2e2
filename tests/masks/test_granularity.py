"""Granularity: what the user writes for it, and which budgets it can meet."""

from __future__ import annotations

import pytest

from smartc.core.errors import UserError
from smartc.masks.granularity import Granularity, parse_granularity
from smartc.selection.budget import parse_budget
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


def test_n_of_m_fixes_its_budget() -> None:
    half = Granularity("n:m", 2, 4)
    assert half.budget(parse_budget(), given=False) == parse_budget(0.5)
    assert half.budget(parse_budget(0.5), given=True) == parse_budget(0.5)
    assert Granularity("n:m", 1, 4).budget(parse_budget(), given=False) == parse_budget(0.75)
    third = Granularity("n:m", 1, 3).budget(parse_budget(2 / 3), given=True)
    assert third.amount == pytest.approx(2 / 3, abs=1e-15)


@pytest.mark.parametrize("budget", [parse_budget(0.6), parse_budget(None, "0.5x"), parse_budget(None, None, "10M")])
def test_n_of_m_refuses_other_budgets(budget: object) -> None:
    with pytest.raises(UserError) as caught:
        Granularity("n:m", 2, 4).budget(budget, given=True)  # type: ignore[arg-type]
    fact = "2:4 removes 50.0% of the weights, and no other budget can be met by it"
    assert str(caught.value) == f"granularity='2:4': {fact}. Leave the budget out."


def test_others_take_every_budget() -> None:
    for budget in (parse_budget(0.6), parse_budget(None, "0.5x")):
        assert Granularity("block", 8, 8).budget(budget, given=True) is budget
        assert Granularity("channel").budget(budget, given=True) is budget
