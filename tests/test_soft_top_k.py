"""The soft top-k: exact budgets, gradients through the threshold, hard limits, awkward values, warm starts."""

from __future__ import annotations

import math
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from smartc import UserError, soft_top_k
from smartc.learning import top_k_problem
from smartc.learning.top_k_flat import CHUNK
from smartc.learning.top_k_problem import LONG_ROW

# Relative: the tolerances of the search, and as much again for the rounding of the result and of this file's sums.
SPENT = {torch.float64: 1e-14, torch.float32: 1e-6}
# Absolute: a sigmoid at a root found to SPENT, where the costs span a factor of ten.
SAME = {torch.float64: 1e-11, torch.float32: 1e-5}
# What finite differences of 1e-6 leave in float64.
GRADIENT = 1e-5
LONG = LONG_ROW + 77


def spent(soft: Tensor, cost: Tensor | None = None) -> float:
    """Return what is spent, in float64."""
    return (soft.double() if cost is None else soft.double() * cost.double()).sum().item()


def by_halving(scores: Tensor, amount: float, temperature: float, cost: Tensor | None = None) -> np.ndarray[Any, Any]:
    """Return the sigmoids at the threshold found by halving, in float64."""
    z = scores.double().flatten().numpy() / temperature
    c = np.ones_like(z) if cost is None else cost.double().flatten().numpy()
    low, high = z.min() - 60, z.max() + 60
    for _ in range(70):
        middle = (low + high) / 2
        sigmoids = 1 / (1 + np.exp(np.clip(middle - z, -700, 700)))
        low, high = (middle, high) if (c * sigmoids).sum() > amount else (low, middle)
    return sigmoids.reshape(scores.shape)


def never() -> Tensor:
    """Return a start that is none."""
    return torch.tensor(math.nan, dtype=torch.float64)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, float, float, Tensor | None]:
    """Return random scores, amount, temperature and cost."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    units = draw(st.sampled_from([2, 3, 10, 100, 3000, LONG]))
    kind = draw(st.sampled_from([torch.float64, torch.float32]))
    scores = torch.randn(units, generator=generator, dtype=kind)
    if draw(st.booleans()):
        scores = scores.mul(2).round()
    cost = torch.rand(units, generator=generator, dtype=kind) * 0.9 + 0.1 if draw(st.booleans()) else None
    total = units if cost is None else spent(cost)
    share = draw(st.floats(1e-4, 1 - 1e-4))
    return scores, share * total, draw(st.sampled_from([100.0, 1.0, 0.1, 0.02])), cost


@given(problems())
@settings(max_examples=30, deadline=None)
def test_spends_the_budget_as_halving_does(problem: tuple[Tensor, float, float, Tensor | None]) -> None:
    scores, amount, temperature, cost = problem
    soft = soft_top_k(scores, amount, temperature, cost)
    assert soft.dtype == scores.dtype
    assert spent(soft, cost) == pytest.approx(amount, rel=SPENT[scores.dtype])
    np.testing.assert_allclose(soft, by_halving(scores, amount, temperature, cost), atol=SAME[scores.dtype], rtol=0)


@given(problems(), st.floats(-300, 300))
@settings(max_examples=30, deadline=None)
def test_a_warm_start_changes_nothing(problem: tuple[Tensor, float, float, Tensor | None], off: float) -> None:
    scores, amount, temperature, cost = problem
    start = never()
    cold = soft_top_k(scores, amount, temperature, cost, start=start)
    right = start.clone()
    start += off * temperature
    warm = soft_top_k(scores, amount, temperature, cost, start=start)
    assert spent(warm, cost) == pytest.approx(amount, rel=SPENT[scores.dtype])
    torch.testing.assert_close(warm, cold, atol=SAME[scores.dtype], rtol=0)
    again = torch.sigmoid((scores.double() - right) / temperature)
    torch.testing.assert_close(again, cold.double(), atol=SAME[scores.dtype], rtol=0)


@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.02])
@pytest.mark.parametrize("costly", [False, True])
@pytest.mark.parametrize("shape", [(13,), (3, 5), LONG])
def test_gradient_goes_through_the_threshold(temperature: float, costly: bool, shape: tuple[int, ...] | int) -> None:
    """Of many scores, only the first are let vary."""
    generator = torch.Generator().manual_seed(5)
    size = (shape,) if isinstance(shape, int) else shape
    scores = torch.randn(size, generator=generator, dtype=torch.float64)
    cost = torch.rand(size, generator=generator, dtype=torch.float64) + 0.1 if costly else None
    amount = 0.4 * (scores.numel() if cost is None else spent(cost))
    free = torch.randn(min(13, scores.numel()), generator=generator, dtype=torch.float64, requires_grad=True)

    def some(free: Tensor) -> Tensor:
        """Return the result where the first scores are the free ones."""
        whole = torch.cat([free, scores.flatten()[len(free) :]]).view(size)
        return soft_top_k(whole, amount, temperature, cost).flatten()[:40]

    assert torch.autograd.gradcheck(some, free, atol=GRADIENT)


@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.02])
@pytest.mark.parametrize("costly", [False, True])
def test_gradient_of_rows(temperature: float, costly: bool) -> None:
    generator = torch.Generator().manual_seed(6)
    scores = torch.randn(6, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    cost = torch.rand(6, 4, generator=generator, dtype=torch.float64) + 0.5 if costly else None
    assert torch.autograd.gradcheck(lambda x: soft_top_k(x, 1.7, temperature, cost, dim=-1), scores, atol=GRADIENT)


@pytest.mark.parametrize("units", [50, LONG])
@pytest.mark.parametrize("costly", [False, True])
def test_gradient_shifts_no_cost(units: int, costly: bool) -> None:
    """Moving along the gradient spends nothing: it is at right angles to the costs, in terms of the result."""
    generator = torch.Generator().manual_seed(7)
    scores = torch.randn(units, generator=generator, requires_grad=True)
    cost = torch.rand(units, generator=generator) + 0.1 if costly else torch.ones(units)
    soft = soft_top_k(scores, 0.3 * spent(cost), 0.1, cost if costly else None)
    (gradient,) = torch.autograd.grad(soft, scores, cost)
    assert gradient.abs().max() < 1e-5


@pytest.mark.parametrize("units", [40, LONG])
def test_tends_to_the_top_k_as_the_temperature_falls(units: int) -> None:
    scores = torch.randperm(units, generator=torch.Generator().manual_seed(1)).double()
    count = units // 3
    hard = torch.zeros(units, dtype=torch.float64)
    hard[torch.topk(scores, count).indices] = 1
    apart = [(soft_top_k(scores, count, t) - hard).abs().max().item() for t in (3.0, 1.0, 0.3, 0.1, 1e-3)]
    assert apart == sorted(apart, reverse=True)
    assert apart[-1] < SPENT[torch.float64]


@pytest.mark.parametrize("units", [40, LONG])
def test_tends_to_the_best_that_the_budget_affords(units: int) -> None:
    """With costs: whole units from the top, and a share of the one that does not fit whole."""
    generator = torch.Generator().manual_seed(2)
    scores = torch.randperm(units, generator=generator).double()
    cost = 10 ** (6 * torch.rand(units, generator=generator, dtype=torch.float64) - 3)
    amount = 0.37 * spent(cost)
    order = scores.argsort(descending=True)
    before = cost[order].cumsum(0) - cost[order]
    share = torch.empty_like(cost)
    share[order] = ((amount - before) / cost[order]).clamp(0, 1)
    soft = soft_top_k(scores, amount, 1e-3, cost)
    assert spent(soft, cost) == pytest.approx(amount, rel=SPENT[torch.float64])
    # Relative to the amount, which is many times one cost.
    torch.testing.assert_close(soft, share, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("units", [30, CHUNK + 5])
@pytest.mark.parametrize("share", [1e-3, 0.5, 0.999])
@pytest.mark.parametrize("temperature", [1.0, 1e-3])
def test_awkward_scores(kind: torch.dtype, units: int, share: float, temperature: float) -> None:
    generator = torch.Generator().manual_seed(3)
    normal = torch.randn(units, generator=generator, dtype=torch.float64)
    groups = torch.randint(0, 3, (units,), generator=generator)
    rows = {
        "all tied": torch.full((units,), 1e6 + 1 / 3),
        "three groups far apart": groups * 1e6,
        "three groups close together": 1e6 + groups / 8,
        "spanning twelve decades": normal.sign() * 10 ** (6 * normal.clamp(-1, 1)),
        "one far above": torch.cat([normal[1:], torch.tensor([1e6])]),
    }
    for name, scores in rows.items():
        soft = soft_top_k(scores.to(kind), share * units, temperature)
        assert spent(soft) == pytest.approx(share * units, rel=SPENT[kind]), name


@pytest.mark.parametrize("units", [30, LONG])
def test_tied_units_share_alike(units: int) -> None:
    scores = torch.zeros(units, dtype=torch.float64)
    scores[:3] = 1
    soft = soft_top_k(scores, 10, 1e-3)
    assert soft[:3].tolist() == [1, 1, 1]
    torch.testing.assert_close(soft[3:], torch.full_like(soft[3:], 7 / (units - 3)), atol=SAME[torch.float64], rtol=0)


@pytest.mark.parametrize("units", [12, LONG])
@pytest.mark.parametrize("costly", [False, True])
@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("dim", [None, -1])
def test_nothing_and_everything(units: int, costly: bool, everything: bool, dim: int | None) -> None:
    scores = torch.randn(1, units, requires_grad=True)
    cost = torch.rand(1, units) + 0.1 if costly else None
    amount = (float(units) if cost is None else cost.sum().item()) if everything else 0
    start = torch.full((1,) if dim else (), 0.25)
    soft = soft_top_k(scores, amount, 0.1, cost, dim=dim, start=start)
    soft.backward(torch.randn(1, units))
    # The sum of the costs in float32 is not always all of them.
    torch.testing.assert_close(soft, torch.full_like(soft, float(everything)), atol=1e-4, rtol=0)
    assert scores.grad is not None
    assert scores.grad.abs().max() < 1e-3
    if not costly:
        assert soft.unique().tolist() == [float(everything)]
        assert scores.grad.abs().max() == 0
        assert start.unique().tolist() == [0.25]


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize(("kept", "of"), [(2, 4), (3, 100)])
@pytest.mark.parametrize("temperature", [1.0, 1e-2])
def test_rows_are_problems_of_their_own(kind: torch.dtype, kept: int, of: int, temperature: float) -> None:
    scores = torch.randn(2, 10, of, generator=torch.Generator().manual_seed(4), dtype=kind)
    start = torch.full((2, 10), math.nan, dtype=torch.float64)
    for _ in range(3):
        soft = soft_top_k(scores, kept, temperature, dim=-1, start=start)
        one_by_one = torch.stack([soft_top_k(row.double(), kept, temperature) for row in scores.view(-1, of)])
        torch.testing.assert_close(soft.view(-1, of).double(), one_by_one, atol=SAME[kind], rtol=0)
        assert (soft.double().sum(-1) / kept - 1).abs().max() < SPENT[kind]
        scores = scores + 0.05 * torch.randn_like(scores)


def test_long_rows_are_problems_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to solve agree, for a row and for its gradient."""
    scores = torch.randn(2, 500, dtype=torch.float64, requires_grad=True)
    cost = torch.rand(2, 500, dtype=torch.float64) + 0.1
    results = []
    for longest in (LONG_ROW, 1):
        monkeypatch.setattr(top_k_problem, "LONG_ROW", longest)
        soft = soft_top_k(scores, 70.5, 0.1, cost, dim=-1)
        results.append((soft, *torch.autograd.grad(soft, scores, scores.detach())))
    torch.testing.assert_close(results[0], results[1], atol=SAME[torch.float64], rtol=0)


def test_start_survives_a_change_of_temperature() -> None:
    """It is in units of score: for well separated scores the threshold hardly depends on the temperature."""
    scores, start = torch.arange(100.0), never()
    soft_top_k(scores, 30, 0.1, start=start)
    assert start.item() == pytest.approx(69.5)
    soft_top_k(scores, 30, 1e-3, start=start)
    assert start.item() == pytest.approx(69.5)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(kind: torch.dtype) -> None:
    scores = torch.randn(LONG).to(kind).requires_grad_()
    soft = soft_top_k(scores, 1000, 0.1)
    soft.square().sum().backward()
    assert soft.dtype == torch.float32
    assert spent(soft) == pytest.approx(1000, rel=SPENT[torch.float32])
    assert scores.grad is not None
    assert scores.grad.dtype == kind


@pytest.mark.parametrize("shape", [(LONG,), (100, 4)])
def test_autocast_changes_nothing(shape: tuple[int, ...]) -> None:
    scores, dim = torch.randn(shape), None if len(shape) == 1 else -1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        soft = soft_top_k(scores, 2, 0.1, dim=dim)
    assert soft.dtype == torch.float32
    assert torch.equal(soft, soft_top_k(scores, 2, 0.1, dim=dim))


@pytest.mark.parametrize("shape", [(LONG,), (100, 4)])
def test_compiles_whole_and_once(shape: tuple[int, ...]) -> None:
    dim = None if len(shape) == 1 else -1
    start = torch.full(shape[:-1], math.nan, dtype=torch.float64)

    def loss(scores: Tensor, amount: Tensor, temperature: Tensor) -> Tensor:
        """Return a loss of the soft top-k."""
        return soft_top_k(scores * 2, amount, temperature, dim=dim, start=start).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    scores = torch.randn(shape, requires_grad=True)
    compiled(scores, torch.tensor(2.0), torch.tensor(0.5)).backward()
    with torch.compiler.set_stance("fail_on_recompile"):
        ours = compiled(scores, torch.tensor(1.0), torch.tensor(0.1))
    assert not start.isnan().any()
    (gradient,) = torch.autograd.grad(ours, scores)
    eager = loss(scores, torch.tensor(1.0), torch.tensor(0.1))
    torch.testing.assert_close(ours, eager)
    torch.testing.assert_close(gradient, torch.autograd.grad(eager, scores)[0])


def test_strides_and_empty_tensors() -> None:
    scores = torch.randn(300, 200, dtype=torch.float64)
    assert torch.equal(soft_top_k(scores.T, 70, 0.1), soft_top_k(scores.T.contiguous(), 70, 0.1))
    assert soft_top_k(torch.empty(0, 4), 2, 0.1, dim=-1).shape == (0, 4)
    assert soft_top_k(torch.empty(0), 0, 0.1).shape == (0,)
    assert soft_top_k(torch.tensor(3.0), 0.25, 0.1).item() == pytest.approx(0.25)


GOOD = torch.arange(4.0)


def with_one(value: float, units: int = 4) -> Tensor:
    """Return ones, but the second."""
    scores = torch.ones(units)
    scores[1] = value
    return scores


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: soft_top_k(GOOD.long(), 1, 1.0),
            "soft_top_k: the scores are torch.int64. Give floating-point scores.",
        ),
        (
            lambda: soft_top_k(GOOD, 1, 1.0, dim=1),
            "soft_top_k: dim is 1 for scores of shape (4,). Give None for one budget, or -1 for one per row of the"
            " last axis.",
        ),
        (
            lambda: soft_top_k(GOOD, 1, 1.0, GOOD[1:]),
            "soft_top_k: cost has shape (3,), the scores (4,). Give a cost for each score.",
        ),
        (
            lambda: soft_top_k(GOOD.view(2, 2), 1, 1.0, dim=-1, start=torch.zeros(3, dtype=torch.int64)),
            "soft_top_k: start has shape (3,), type torch.int64. Give a floating-point tensor of shape (2,) that"
            " requires no gradient.",
        ),
        (
            lambda: soft_top_k(GOOD, 1, 1.0, start=torch.zeros((), requires_grad=True)),
            "soft_top_k: start has shape (), type torch.float32, requires a gradient. Give a floating-point tensor of"
            " shape () that requires no gradient.",
        ),
        (
            lambda: soft_top_k(GOOD, torch.ones(2), 1.0),
            "soft_top_k: k has shape (2,). Give one number.",
        ),
    ],
)
def test_refuses_wrong_tensors(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(UserError) as error:
        call()
    assert str(error.value) == message


@pytest.mark.parametrize("units", [4, LONG])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda n: (with_one(math.nan, n), 1, 1.0), "1 of {n} scores are not finite, the first is nan"),
        (lambda n: (with_one(math.inf, n), 1, 1.0), "1 of {n} scores are not finite, the first is inf"),
        (lambda n: (with_one(-math.inf, n), 1, 1.0), "1 of {n} scores are not finite, the first is -inf"),
        (
            lambda n: (with_one(2, n), 1, 1.0, with_one(-3, n)),
            "1 of {n} costs are not positive and finite, the first is -3",
        ),
        (
            lambda n: (with_one(2, n), 1, 1.0, with_one(0, n)),
            "1 of {n} costs are not positive and finite, the first is 0",
        ),
    ],
)
def test_refuses_wrong_values(units: int, arguments: Callable[[int], tuple[Any, ...]], message: str) -> None:
    with pytest.raises(UserError) as error:
        soft_top_k(*arguments(units))
    assert str(error.value) == f"soft_top_k: {message.format(n=units)}. Look for where they come from."


@pytest.mark.parametrize("units", [4, LONG])
@pytest.mark.parametrize("amount", [-1.0, 20000.5, math.nan])
def test_refuses_a_budget_out_of_range(units: int, amount: float) -> None:
    with pytest.raises(UserError) as error:
        soft_top_k(torch.ones(units), amount, 1.0)
    fact = f"k is {amount:g}, all units together amount to {units:g}"
    assert str(error.value) == f"soft_top_k: {fact}. Give a k from 0 to {units:g}."


@pytest.mark.parametrize("units", [4, LONG])
@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_refuses_a_temperature_out_of_range(units: int, temperature: float) -> None:
    with pytest.raises(UserError) as error:
        soft_top_k(torch.ones(units), 1, temperature)
    fix = "Give one from 1e-30 to 1e+30, in units of score."
    assert str(error.value) == f"soft_top_k: the temperature is {temperature:g}. {fix}"


MEMORY = """
import resource, torch
from smartc import soft_top_k
soft_top_k(torch.randn(100_000), 1000, 0.1).sum()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
scores = torch.randn(10_000_000, requires_grad=True)
soft_top_k(scores, 3e6, 0.1).square().sum().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_ten_million_units_fit_in_a_gibibyte() -> None:
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, timeout=300)
    assert int(run.stdout) < 2**20  # KiB


def test_benchmark_prints_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    script = str(Path(__file__).parents[1] / "benchmarks" / "soft_top_k.py")
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", [script, "--threads", "1", "--units", "20000", "--rounds", "1"])
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        torch.set_num_threads(threads)
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split() == ["threads", "units", "call", "ms", "sigmoid", "ratio", "sum", "off", "by"]
    assert len(lines) == 4
    assert all(float(line.split()[-1]) < SPENT[torch.float32] for line in lines)
