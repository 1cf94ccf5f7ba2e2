"""The kernels of training steps compute what PyTorch's operators compute."""

from __future__ import annotations

import pytest
import torch

from smartc.passes import scaled_rows
from smartc.passes.scaled_rows import Grid, Memory, scaled_tiles
from smartc.training_kernels import compiled
from smartc.training_kernels.compiled import serves
from smartc.training_kernels.tiles import tile_gradients

GRIDS = [Grid(1, 16, 8, 9, 8, 4, True), Grid(2, 8, 6, 4, 4, 3, False), Grid(1, 10, 7, 3, 4, 2, True)]
SHAPES = [(3, 8, 2, 8, 9), (2, 5, 1, 3, 1), (1, 1, 7, 4, 49)]
# Sums of a few hundred float32 products in another order.
SAME = 1e-4


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


def test_what_kernels_cannot_read_is_left_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = torch.ones(4, 6)
    monkeypatch.setattr(torch, "get_num_threads", lambda: compiled.FEW_THREADS)
    assert not serves(plain)
    with torch.no_grad():
        assert serves(plain, torch.nn.Parameter(plain))
        for tensor in (plain.double(), plain.T, plain[:0], plain.bfloat16(), plain.to("meta")):
            assert not serves(plain, tensor)
        monkeypatch.setattr(torch, "get_num_threads", lambda: compiled.FEW_THREADS + 1)
        assert not serves(plain)
