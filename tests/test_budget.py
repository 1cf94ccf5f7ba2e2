"""Budgets: what is understood, and what is refused in which words."""

from __future__ import annotations

from typing import Any

import pytest

from smartc.budget import Budget, impossible, parse_budget
from smartc.errors import UserError

SHARE = "not a share of channels. Give a number from 0 to less than 1."
TIME = "not a latency. Give a share such as 0.6x or a time such as 1.5ms."


@pytest.mark.parametrize(
    ("sparsity", "latency", "budget"),
    [
        (None, None, Budget("sparsity", 0.5, "0.5")),
        (0, None, Budget("sparsity", 0.0, "0")),
        (0.25, None, Budget("sparsity", 0.25, "0.25")),
        (None, "0.6x", Budget("latency", 0.6, "0.6x")),
        (None, " .5 x ", Budget("latency", 0.5, ".5x")),
        (None, "1.5ms", Budget("latency", 1.5, "1.5ms")),
        (None, "2.x", Budget("latency", 2.0, "2.x")),
    ],
)
def test_understands(sparsity: float | None, latency: str | None, budget: Budget) -> None:
    assert parse_budget(sparsity, latency) == budget


@pytest.mark.parametrize("share", [1, 1.0, -0.1, float("nan"), float("inf"), True, "half", [0.5]])
def test_refuses_shares(share: Any) -> None:
    with pytest.raises(UserError) as caught:
        parse_budget(share, None)
    assert str(caught.value) == f"--sparsity {share}: {SHARE}"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "time", ["", "x", "ms", "0x", "0.0ms", "3", 3, 0.6, "-1x", "+1x", "1e-3ms", "0.6X", "1,5ms", "nanx", "infms", "1 s"]
)
def test_refuses_times(time: Any) -> None:
    with pytest.raises(UserError) as caught:
        parse_budget(None, time)
    assert str(caught.value) == f"--latency {time}: {TIME}"


def test_refuses_a_time_beyond_all_numbers() -> None:
    with pytest.raises(UserError, match=r"^--latency 9+x: not a latency\."):
        parse_budget(None, "9" * 400 + "x")


def test_refuses_two_budgets() -> None:
    with pytest.raises(UserError) as caught:
        parse_budget(0.5, "0.6x")
    assert str(caught.value) == "--sparsity, --latency: both a sparsity and a latency are given. Give one of them."


def test_cycles_of_a_share_and_of_a_time() -> None:
    assert parse_budget(None, "0.5x").cycles(dense=1000.0, frequency_hz=1e6) == 500
    assert parse_budget(None, "0.25ms").cycles(dense=1000.0, frequency_hz=1e6) == 250


@pytest.mark.parametrize(
    ("fastest", "dense", "figures"),
    [
        (213.4561, 10_000.0, "0.02135x (0.2135 ms)"),  # rounded up, so that it can be asked for
        (500.0, 1000.0, "0.5000x (0.5000 ms)"),
        (1000.0, 1000.0, "1.0000x (1.0000 ms)"),
        (123_456_789.0, 1e9, "0.1235x (123500 ms)"),
        (0.0, 0.0, "1.0000x (0 ms)"),
    ],
)
def test_says_what_can_be_reached(fastest: float, dense: float, figures: str) -> None:
    error = impossible(Budget("latency", 0.01, "0.01x"), fastest, dense, ("npu-8x8", 1e6))
    assert str(error) == (
        f"--latency 0.01x: removing channels makes the model at best {figures} on npu-8x8. Ask for no less than that."
    )
