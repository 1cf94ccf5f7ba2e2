"""What the shipped devices run themselves: the families of their files mean the operators of the golden file."""

from __future__ import annotations

from pathlib import Path

import pytest

from smartc.core.errors import UserError
from smartc.ir.operators.table import OPERATORS, families
from smartc.targets.target import Target, load_target

HEAD, *LISTED = (Path(__file__).parent.parent / "golden" / "supported.txt").read_text(encoding="utf-8").splitlines()
NAMES = HEAD.removeprefix("# ").split()


def target_with(*words: object) -> Target:
    """Return a target that supports some words."""
    raw = load_target("npu-8x8").to_dict()
    raw["ops"]["supported"] = list(words)
    return Target.from_dict(raw, where="my.toml")


@pytest.mark.parametrize("name", NAMES)
def test_shipped_target_supports_the_listed_operators(name: str) -> None:
    target = load_target(name)
    supported = {operator for operator in OPERATORS if target.supports(operator)}
    assert set(LISTED) <= supported
    # A target is never asked about what is free.
    assert {operator for operator in supported - set(LISTED) if OPERATORS[operator].cost != "free"} == set()


@pytest.mark.parametrize("name", NAMES)
def test_shipped_target_speaks_of_families(name: str) -> None:
    assert set(load_target(name).ops.supported) <= set(families())


def test_single_operators_stand_beside_families() -> None:
    target = target_with("activation", "bmm", "conv2d")
    asked = ("relu", "selu", "bmm", "matmul", "conv2d", "conv1d", "made_up")
    assert [name for name in asked if target.supports(name)] == ["relu", "bmm", "conv2d"]


@pytest.mark.parametrize("word", ["conv9d", "unknown", ""])
def test_unknown_word(word: str) -> None:
    with pytest.raises(UserError) as refused:
        target_with("activation", word)
    assert str(refused.value).startswith(f"my.toml, [ops] supported: cannot be {word!r}. Give a list of operators")


def test_a_word_that_is_both_means_the_operator_alone() -> None:
    both = set(families()) & OPERATORS.keys()
    for word in both:
        meant = {row.name for row in OPERATORS.values() if row.family == word and not row.by_name_only}
        assert {name for name in meant if OPERATORS[name].cost != "free"} <= {word}
