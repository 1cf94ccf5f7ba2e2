"""The soft top-k: exact budgets, hard limits, awkward values, warm starts."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from smartc import soft_top_k
from smartc.learning.soft_top_k import flat as top_k_flat
from smartc.learning.soft_top_k import problem as top_k_problem
from smartc.learning.soft_top_k.flat import CHUNK
from smartc.learning.soft_top_k.problem import LONG_ROW
from tests.support.soft_top_k_by_hand import LONG, SAME, SPENT, by_halving, spent


def never() -> Tensor:
    """Return a start that is none."""
    return torch.tensor(math.nan, dtype=torch.float64)


@pytest.fixture(autouse=True, scope="module", params=["kernels", "operators"])
def _long_rows(request: pytest.FixtureRequest) -> Iterator[None]:
    """Solve long rows by kernels, where TVM is installed, and by PyTorch's operators, whatever their length."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(top_k_flat, "LONG", 1 if request.param == "kernels" else 10**9)
        yield


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


@pytest.mark.slow
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
    torch.testing.assert_close(soft_top_k(scores.T, 70, 0.1), soft_top_k(scores.T.contiguous(), 70, 0.1))
    assert soft_top_k(torch.empty(0, 4), 2, 0.1, dim=-1).shape == (0, 4)
    assert soft_top_k(torch.empty(0), 0, 0.1).shape == (0,)
    assert soft_top_k(torch.tensor(3.0), 0.25, 0.1).item() == pytest.approx(0.25)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("amount", [2.0, 2.7, 3.9999, 1e-3])
@pytest.mark.parametrize("temperature", [1.0, 0.03, 1e-3])
def test_rows_follow_scores_that_move(kind: torch.dtype, amount: float, temperature: float) -> None:
    """From far and near starts, with plateaus between the scores and without."""
    generator = torch.Generator().manual_seed(8)
    scores = torch.randn(300, 4, generator=generator, dtype=kind)
    start = torch.full((300,), math.nan)
    for move in (0.01, 0.3, 3.0, 0.01):
        soft = soft_top_k(scores, amount, temperature, dim=-1, start=start)
        assert (soft.double().sum(-1) / amount - 1).abs().max() < SPENT[kind]
        exact = np.stack([by_halving(row, amount, temperature) for row in scores])
        np.testing.assert_allclose(soft, exact, atol=SAME[kind], rtol=0)
        scores = scores + move * torch.randn(300, 4, generator=generator, dtype=kind)


def test_no_result_is_slow_to_compute_with() -> None:
    """Numbers below float32's normal ones are."""
    scores = torch.linspace(-1, 1, 400, requires_grad=True)
    soft = soft_top_k(scores.view(-1, 4)[:, [0, 2, 1, 3]] * 100, 2, 1e-2, dim=-1)
    assert soft[soft > 0].min() > torch.finfo(torch.float32).tiny
