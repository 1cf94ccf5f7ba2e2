"""The kernels of training steps compute what PyTorch's operators compute."""

from __future__ import annotations

import math

import pytest
import torch

from smartc import soft_top_k
from smartc.kernels import tensor_pool
from smartc.kernels.training import compiled
from smartc.kernels.training.compiled import serves
from smartc.kernels.training.long_rows import (
    follow_slopes,
    gradient_sums,
    score_gradient,
    soft_indicators,
    sum_of_costs,
)
from smartc.kernels.training.patterns import pattern_gradients, pattern_product
from smartc.kernels.training.rows import Limits, soft_top_k_rows, soft_top_k_rows_gradient
from smartc.kernels.training.tiles import tile_gradients
from smartc.learning.soft_top_k.columns import STRAIGHT, TOLERANCES
from smartc.learning.soft_top_k.root import REACH
from smartc.masks import scaled_pattern, scaled_rows
from smartc.masks.layouts import MaskLayout, Pattern, Tiles
from smartc.masks.scaled_rows import Grid, Memory, scaled_tiles

GRIDS = [Grid(1, 16, 8, 9, 8, 4, True), Grid(2, 8, 6, 4, 4, 3, False), Grid(1, 10, 7, 3, 4, 2, True)]
SHAPES = [(3, 8, 2, 8, 9), (2, 5, 1, 3, 1), (1, 1, 7, 4, 49)]
# Sums of a few hundred float32 products in another order.
SAME = 1e-4
# A float32 sigmoid, and the sum of a hundred of these.
ROUNDING = 5e-7


@pytest.mark.parametrize(("runs", "rows", "across", "columns", "taps"), SHAPES)
@pytest.mark.parametrize("in_place", [False, True])
def test_gradients_of_tiles(runs: int, rows: int, across: int, columns: int, taps: int, in_place: bool) -> None:
    length = across * columns * taps
    gradient, weight = torch.randn(2, runs, rows, length)
    scale = torch.rand(runs, across, columns, taps)
    expected = gradient * scale.view(runs, 1, length)
    total = (gradient * weight).view(runs, rows, across, columns, taps).sum((1, 3))
    product = gradient if in_place else torch.empty_like(gradient)
    torch.testing.assert_close(tile_gradients(gradient, weight, scale, product), total, atol=SAME, rtol=SAME)
    torch.testing.assert_close(product, expected, atol=0, rtol=0)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("fresh", [False, True])
def test_masked_weights_have_the_gradients_of_pytorch(grid: Grid, fresh: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(grid.groups * grid.out, grid.into, grid.taps, requires_grad=True)
    mask = torch.rand(*grid.shape, requires_grad=True)
    memory, results = Memory(fresh), []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    for kernels in (True, False):
        monkeypatch.setattr(scaled_rows, "serves", serves if kernels else lambda *tensors: False)
        for _ in range(2):
            product = scaled_tiles(weight, mask, grid, memory)
            results.append(torch.autograd.grad((product * product.detach().sin()).sum(), (weight, mask)))
    for others in results[1:]:
        torch.testing.assert_close(others, results[0], atol=SAME, rtol=SAME)
    by_hand = torch.autograd.grad(
        (grid.scaled(weight, grid.spread(mask)) * product.detach().sin()).sum(), (weight, mask)
    )
    torch.testing.assert_close(by_hand, results[0], atol=SAME, rtol=SAME)


@pytest.mark.parametrize(("out", "into", "taps", "covered"), [(5, 7, 9, 4), (3, 8, 1, 8), (4, 33, 4, 32)])
@pytest.mark.parametrize("in_place", [False, True])
def test_products_and_gradients_of_patterns(out: int, into: int, taps: int, covered: int, in_place: bool) -> None:
    gradient, weight = torch.randn(2, out, into, taps).unbind()
    mask = torch.rand(out, taps, covered)
    whole = torch.cat([mask.transpose(1, 2), torch.ones(out, into - covered, taps)], 1)
    product, both = torch.empty_like(weight), gradient * weight
    pattern_product(weight, mask, product)
    torch.testing.assert_close(product, weight * whole, atol=0, rtol=0)
    expected, product = gradient * whole, gradient if in_place else product
    found = pattern_gradients(gradient, weight, mask, product)
    torch.testing.assert_close(product, expected, atol=0, rtol=0)
    torch.testing.assert_close(found, both[:, :covered].transpose(1, 2), atol=0, rtol=0)


@pytest.mark.parametrize("shape", [(8, 16), (4, 11, 3, 3)])
@pytest.mark.parametrize("fresh", [False, True])
def test_weights_under_patterns_have_the_gradients_of_pytorch(
    shape: tuple[int, ...], fresh: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pattern, memory, results = Pattern(shape, 4), Memory(fresh), []
    weight, mask = torch.randn(shape, requires_grad=True), torch.rand(pattern.count, requires_grad=True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    for kernels in (True, False):
        monkeypatch.setattr(scaled_pattern, "serves", serves if kernels else lambda *tensors: False)
        for _ in range(2):
            product = pattern.apply(weight, mask, memory)
            loss = (product * product.detach().sin()).sum()
            results.append((product.detach().clone(), *torch.autograd.grad(loss, (weight, mask))))
    for others in results[1:]:
        torch.testing.assert_close(others, results[0], atol=0, rtol=0)


@pytest.mark.parametrize("layout", [Pattern((4, 8), 4), Tiles((16, 8), 8, 4)])
def test_gradients_of_gradients(layout: MaskLayout) -> None:
    weight, mask = torch.randn(layout.shape, requires_grad=True), torch.rand(layout.count, requires_grad=True)
    results = []
    for memory in (Memory(), None):
        loss = layout.apply(weight, mask, memory).pow(3).sum()
        first = torch.autograd.grad(loss, (weight, mask), create_graph=True)
        results.append(torch.autograd.grad(first[0].sum() + first[1].sum(), (weight, mask)))
    torch.testing.assert_close(results[0], results[1], atol=SAME, rtol=SAME)


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "units", "amount"), [(37, 4, 2.0), (16, 8, 3.5), (5, 2, 1.0), (20, 16, 0.3)])
@pytest.mark.parametrize("temperature", [1.0, 0.03])
def test_rows_and_their_gradients(rows: int, units: int, amount: float, temperature: float) -> None:
    scores = torch.randn(rows, units)
    start = torch.full((rows,), math.nan)
    soft_top_k(scores, amount, temperature, dim=-1, start=start)
    scores += 0.01 * temperature * torch.randn_like(scores)
    exact = scores.double().requires_grad_()
    expected = soft_top_k(exact, amount, temperature, dim=-1)
    limits = Limits(TOLERANCES[torch.float32] * amount, STRAIGHT[torch.float32], REACH)
    soft, threshold = soft_top_k_rows(scores, start, amount, temperature, limits)
    assert not threshold.isnan().any()
    torch.testing.assert_close(soft.double(), expected, atol=SAME, rtol=0)
    incoming = torch.randn_like(scores)
    (gradient,) = torch.autograd.grad(expected, exact, incoming.double())
    found = soft_top_k_rows_gradient(expected.detach().float(), incoming, temperature)
    torch.testing.assert_close(found.double(), gradient, atol=SAME / temperature, rtol=0)


@pytest.mark.parametrize("units", [1, 127, 128, 40_003])
@pytest.mark.parametrize("priced", [False, True])
def test_a_long_row_and_its_gradient(units: int, priced: bool) -> None:
    scores, incoming, cost = 3 * torch.randn(units), torch.randn(units), torch.rand(units) + 0.1
    given, soft, outgoing = cost if priced else None, torch.empty(units), torch.empty(units)
    each = cost.double() if priced else torch.ones(units, dtype=torch.float64)
    expected = torch.sigmoid((scores.double() - 0.5) * 2 - 0.25)
    spent, square = soft_indicators(scores, given, 0.5, 2.0, -0.25, soft)
    torch.testing.assert_close(soft.double(), expected, atol=ROUNDING, rtol=ROUNDING)
    assert spent == pytest.approx(float(soft.double() @ each), rel=ROUNDING)
    assert square == pytest.approx(float(soft.double().square() @ each), rel=ROUNDING)

    slope = soft.double() * (1 - soft.double())
    along, spread = gradient_sums(soft, given, incoming)
    assert along == pytest.approx(float(slope @ incoming.double()), rel=SAME, abs=SAME)
    assert spread == pytest.approx(float(slope @ each), rel=SAME)
    score_gradient(soft, given, incoming, 0.7, 2.0, outgoing)
    torch.testing.assert_close(outgoing.double(), slope * (incoming - 0.7 * each) * 2, atol=1e-5, rtol=1e-5)

    follow_slopes(soft, 1e-3)
    torch.testing.assert_close(soft.double(), expected + 1e-3 * expected * (1 - expected), atol=1e-6, rtol=0)
    assert sum_of_costs(cost) == pytest.approx(float(cost.double().sum()), rel=ROUNDING)


@pytest.mark.parametrize("place", [0, 200, 299])
def test_what_is_no_number_or_no_cost_is_told(place: int) -> None:
    """In a whole block of vectors, in the last vectors, and beyond them."""
    scores, soft = torch.randn(300), torch.empty(300)
    for value in (0.0, -1.0, math.nan):
        cost = torch.ones(300)
        cost[place] = value
        assert math.isnan(sum_of_costs(cost))
    for value, indicator in ((math.inf, 1.0), (-math.inf, 0.0)):
        scores[place] = value
        assert math.isfinite(soft_indicators(scores, None, 0.0, 1.0, 0.0, soft)[0])
        assert float(soft[place]) == pytest.approx(indicator)
    scores[place] = math.nan
    assert math.isnan(soft_indicators(scores, None, 0.0, 1.0, 0.0, soft)[0])


def test_rows_without_a_solution_nearby_are_told() -> None:
    scores, start = torch.randn(40, 4), torch.full((40,), math.nan)
    soft_top_k(scores, 2, 1.0, dim=-1, start=start)
    scores[3, 1], scores[5, 2], scores[38, 3], scores[39, 0] = math.nan, -math.inf, math.nan, math.inf
    start[7], start[20], start[21] = math.nan, 1e6, -300
    threshold = soft_top_k_rows(scores, start, 2.0, 1.0, Limits(1e-6, 1e-3, REACH))[1]
    assert threshold.isnan().nonzero()[:, 0].tolist() == [3, 5, 7, 20, 21, 38, 39]


@pytest.mark.parametrize("layout", [Pattern((16, 16), 4), Tiles((16, 16), 8, 4)])
def test_a_product_that_is_still_read_is_not_written_over(layout: MaskLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_pool, "SMALLEST", 1)
    weight, mask, memory = torch.randn(16, 16, requires_grad=True), torch.rand(layout.count), Memory(True)
    first = layout.apply(weight, mask, memory).square().sum()
    (before,) = torch.autograd.grad(first, weight, retain_graph=True)
    layout.apply(weight, mask, memory).sum().backward()
    (after,) = torch.autograd.grad(first, weight)
    assert torch.equal(before, after)


def test_what_kernels_cannot_read_is_left_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = torch.ones(4, 64)
    monkeypatch.setattr(torch, "get_num_threads", lambda: compiled.FEW_THREADS)
    assert serves(plain, torch.nn.Parameter(plain))
    for tensor in (plain.double(), plain.T, plain[:0], plain.view(-1)[1:], plain.bfloat16(), plain.to("meta")):
        assert not serves(plain, tensor)
    monkeypatch.setattr(torch, "get_num_threads", lambda: compiled.FEW_THREADS + 1)
    assert not serves(plain)


def test_a_tvm_that_cannot_be_loaded_leaves_all_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ImportError("undefined symbol")

    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(compiled, "_can_compile", compiled._can_compile.__wrapped__)
    assert serves(torch.ones(4, 64))
    monkeypatch.setattr(compiled, "_machine", broken)
    assert not serves(torch.ones(4, 64))
