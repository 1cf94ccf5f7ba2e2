"""Budgets: what is understood, and what is refused in which words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from smartc.core.errors import UserError
from smartc.masks.granularity import parse_granularity
from smartc.selection.budget import RequestedBudget, budget_of, impossible, parse_budget
from smartc.targets.latency import Measure
from smartc.targets.target import load_target
from tests.support.search_networks import budget_for, search_of

NPU = load_target("npu-8x8")
DEVICE = replace(NPU, array=replace(NPU.array, frequency_hz=1e6))

SHARE = "not a share of channels. Give a number from 0 to less than 1."
MACS = "not a number of MACs. Give a share such as 0.5x or a number such as 300M or 1.2G."
BYTES = "not a number of bytes. Give a share such as 0.5x or a size such as 500kB or 1.5MiB."
TIME = "not a latency. Give a share such as 0.6x or a time such as 1.5ms."


def asking(kind: str, text: str) -> RequestedBudget:
    """Return a budget of some kind."""
    options: dict[str, Any] = {kind: text}
    return parse_budget(**options)


@pytest.mark.parametrize(
    ("sparsity", "latency", "budget"),
    [
        (None, None, RequestedBudget("sparsity", 0.5, "0.5")),
        (0, None, RequestedBudget("sparsity", 0.0, "0")),
        (0.25, None, RequestedBudget("sparsity", 0.25, "0.25")),
        (None, "0.6x", RequestedBudget("latency", 0.6, "0.6x")),
        (None, " .5 x ", RequestedBudget("latency", 0.5, ".5x")),
        (None, "1.5ms", RequestedBudget("latency", 1.5, "1.5ms")),
        (None, "2.x", RequestedBudget("latency", 2.0, "2.x")),
    ],
)
def test_understands(sparsity: float | None, latency: str | None, budget: RequestedBudget) -> None:
    assert parse_budget(sparsity, latency) == budget


@pytest.mark.parametrize(
    ("kind", "asked", "limit"),
    [
        ("macs", "0.5x", 500.0),
        ("macs", "250k", 250e3),
        ("macs", "300M", 300e6),
        ("macs", "1.2G", 1.2e9),
        ("macs", ".5T", 0.5e12),
        ("bytes", "0.25x", 250.0),
        ("bytes", "17B", 17.0),
        ("bytes", "500kB", 500e3),
        ("bytes", "2MB", 2e6),
        ("bytes", "3.5GB", 3.5e9),
        ("bytes", "1.5KiB", 1536.0),
        ("bytes", "1.5MiB", 1.5 * 2**20),
        ("bytes", "2GiB", 2.0**31),
    ],
)
def test_understands_amounts(kind: str, asked: str, limit: float) -> None:
    number = asked.rstrip("xkKMGTiB")
    for text in (asked, f"  {number} {asked.removeprefix(number)} "):
        budget = asking(kind, text)
        assert (budget.kind, budget.measure, budget.asked) == (kind, kind, asked)
        assert budget.resolved(1000.0, DEVICE).limit == limit


def test_channels_are_removed_for_the_sake_of_time() -> None:
    assert parse_budget().measure == parse_budget(latency="1ms").measure == "latency"


@pytest.mark.parametrize("share", [1, 1.0, -0.1, float("nan"), float("inf"), True, "half", [0.5]])
def test_refuses_shares(share: Any) -> None:
    with pytest.raises(UserError) as caught:
        parse_budget(share, None)
    assert str(caught.value) == f"sparsity={share!r}: {SHARE}"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "time", ["", "x", "ms", "0x", "0.0ms", "3", 3, 0.6, "-1x", "+1x", "1e-3ms", "0.6X", "1,5ms", "nanx", "infms", "1 s"]
)
def test_refuses_times(time: Any) -> None:
    with pytest.raises(UserError) as caught:
        parse_budget(None, time)
    assert str(caught.value) == f"latency={time!r}: {TIME}"


@pytest.mark.parametrize("macs", ["", "3", 300e6, "0M", "-1M", "1e6", "300m", "300 K", "2MB", "1.2.3G", "nanx", "50%"])
def test_refuses_macs(macs: Any) -> None:
    with pytest.raises(UserError) as caught:
        parse_budget(macs=macs)
    assert str(caught.value) == f"macs={macs!r}: {MACS}"


@pytest.mark.parametrize("size", ["", "3", 2e6, "0B", "-1kB", "1M", "500KB", "500 kb", "1,5MB", "infx", "MB", True])
def test_refuses_bytes(size: Any) -> None:
    with pytest.raises(UserError) as caught:
        parse_budget(bytes=size)
    assert str(caught.value) == f"bytes={size!r}: {BYTES}"


def test_refuses_a_time_beyond_all_numbers() -> None:
    with pytest.raises(UserError, match=r"^latency='9+x': not a latency\."):
        parse_budget(None, "9" * 400 + "x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 0.5, "latency": "0.6x"}, "sparsity=..., latency=...: both a sparsity and a latency are given."),
        ({"macs": "0.5x", "bytes": "no"}, "macs=..., bytes=...: both MACs and bytes are given."),
        (
            {"bytes": "2MB", "sparsity": 0, "macs": "300M"},
            "sparsity=..., macs=..., bytes=...: a sparsity, MACs and bytes are given.",
        ),
        (
            {"sparsity": 0.1, "latency": "1x", "macs": "1x", "bytes": "1x"},
            "sparsity=..., latency=..., macs=..., bytes=...: a sparsity, a latency, MACs and bytes are given.",
        ),
    ],
)
def test_refuses_more_than_one_budget(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_budget(**options)
    assert str(caught.value) == f"{message} Give one of them."


def test_limits_of_a_share_and_of_a_time() -> None:
    assert parse_budget(None, "0.5x").resolved(1000.0, DEVICE).limit == 500
    assert parse_budget(None, "0.25ms").resolved(1000.0, DEVICE).limit == 250


def test_the_limit_of_a_sparsity_is_the_share_that_stays() -> None:
    budget = parse_budget(0.75).resolved(1000.0, DEVICE)
    assert (budget.limit, budget.dense, budget.asked) == (0.25, 1.0, "0.75")


@pytest.mark.parametrize("measure", ["latency", "macs", "bytes"])
@pytest.mark.parametrize("name", ["residual_bottlenecks", "plain_chain", "nothing_to_remove"])
def test_shares_are_of_what_the_whole_network_costs(name: str, measure: Measure) -> None:
    network = replace(search_of(name), measure=measure)
    budget = budget_for(network, **{measure: "0.5x"})
    assert budget.measure == measure
    assert (budget.dense, budget.limit) == (float(network.cost(network.full)), 0.5 * budget.dense)


@pytest.mark.parametrize(
    ("options", "stated"),
    [
        ({"latency": "0.5x"}, "0.4938x"),
        ({"latency": "9ms"}, "1.235ms"),
        ({"macs": "0.5x"}, "0.4938x"),
        ({"macs": "9G"}, "1.235e-06G"),
        ({"macs": "9k"}, "1.235k"),
        ({"bytes": "9B"}, "1235B"),
        ({"bytes": "9KiB"}, "1.206KiB"),
    ],
)
def test_states_what_was_reached_in_the_unit_asked_for(options: dict[str, Any], stated: str) -> None:
    assert parse_budget(**options).resolved(2500.0, DEVICE).stated(1234.6, 2500.0) == stated


def test_states_large_figures_without_an_exponent_and_shares_of_nothing() -> None:
    assert parse_budget(macs="1k").resolved(2e8, DEVICE).stated(123_456_789.0, 2e8) == "123457k"
    assert parse_budget(macs="1x").resolved(0.0, DEVICE).stated(0.0, 0.0) == "1.0000x"


def test_n_of_m_fixes_its_budget() -> None:
    half = parse_granularity("2:4", DEVICE)
    assert budget_of(half, parse_budget(), False) == parse_budget(0.5)
    assert budget_of(half, parse_budget(0.5), True) == parse_budget(0.5)
    assert budget_of(parse_granularity("1:4", DEVICE), parse_budget(), False) == parse_budget(0.75)
    third = budget_of(parse_granularity("1:3", DEVICE), parse_budget(2 / 3), True)
    assert third.amount == pytest.approx(2 / 3, abs=1e-15)


@pytest.mark.parametrize("budget", [parse_budget(0.6), parse_budget(None, "0.5x"), parse_budget(None, None, "10M")])
def test_n_of_m_refuses_other_budgets(budget: object) -> None:
    with pytest.raises(UserError) as caught:
        budget_of(parse_granularity("2:4", DEVICE), budget, True)  # type: ignore[arg-type]
    fact = "2:4 removes 50.0% of the weights, and no other budget can be met by it"
    assert str(caught.value) == f"granularity='2:4': {fact}. Leave the budget out."


def test_other_granularities_take_every_budget() -> None:
    for budget in (parse_budget(0.6), parse_budget(None, "0.5x")):
        assert budget_of(parse_granularity("8x8", DEVICE), budget, True) is budget
        assert budget_of(parse_granularity("channel", DEVICE), budget, True) is budget


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
    error = impossible(asking("latency", "0.01x").resolved(dense, DEVICE), fastest, DEVICE)
    assert str(error) == (
        f"latency='0.01x': removing channels makes the model at best {figures} on npu-8x8. Ask for no less than that."
    )


@pytest.mark.parametrize(
    ("kind", "least", "fact"),
    [
        ("macs", 213_456.1, "0.02135x (213.5k) of the MACs"),  # rounded up, so that it can be asked for
        ("macs", 999_960.0, "0.10000x (1000.0k) of the MACs"),
        ("macs", 10_000_000.0, "1.0000x (10.000M) of the MACs"),
        ("macs", 12.0, "0.000001200x (0.01200k) of the MACs"),
        ("bytes", 1_234_567.0, "0.1235x (1.235MB) of the bytes of weights on npu-8x8"),
        ("bytes", 64.0, "0.000006400x (64.00B) of the bytes of weights on npu-8x8"),
    ],
)
def test_says_what_can_be_reached_in_its_own_unit(kind: str, least: float, fact: str) -> None:
    error = impossible(asking(kind, "0.01x").resolved(1e7, DEVICE), least, DEVICE)
    assert str(error) == (f"{kind}='0.01x': removing channels leaves at least {fact}. Ask for no less than that.")
    for text in fact.split()[:2]:
        asked = asking(kind, text.strip("()"))
        assert least <= asked.resolved(1e7, DEVICE).limit * (1 + 1e-12) <= least * 1.001
