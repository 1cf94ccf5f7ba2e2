"""The latency model against hand loops, simulations, other tools' figures and its own promises."""

from __future__ import annotations

import time
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smartc.targets.latency import BOUNDS
from smartc.targets.target import Target, load_target, target_names, without_skipping
from smartc.targets.tiling import tiling
from smartc.targets.workload import OpKind, Workload
from tests.support.latency_by_hand import price_by_hand
from tests.support.random_layers import changed, random_layers, random_target

# Pixels, kernel taps, input and output channels, input pixels of ResNet-18's layers at 224 x 224.
RESNET18 = (
    [(12544, 49, 3, 64, 50176)]
    + [(3136, 9, 64, 64, 3136)] * 4
    + [(784, 9, 64, 128, 3136), (784, 9, 128, 128, 784), (784, 1, 64, 128, 3136)]
    + [(784, 9, 128, 128, 784)] * 2
    + [(196, 9, 128, 256, 784), (196, 9, 256, 256, 196), (196, 1, 128, 256, 784)]
    + [(196, 9, 256, 256, 196)] * 2
    + [(49, 9, 256, 512, 196), (49, 9, 512, 512, 49), (49, 1, 256, 512, 196)]
    + [(49, 9, 512, 512, 49)] * 2
    + [(1, 1, 512, 1000, 1)]
)


def layers(**given: Any) -> Workload:
    """Return matrix layers with whatever is not given at 1."""
    plain = dict.fromkeys(("pixels", "kernel", "cin", "cout", "groups", "input_elements", "output_elements"), 1)
    return Workload(**{"kind": OpKind.MATRIX, **plain, **given})


def resnet18(target: Target, zero: float = 0.0) -> Workload:
    """Return ResNet-18 with a share of zero tiles."""
    pixels, kernel, cin, cout, read = np.array(RESNET18).T
    shape = {"pixels": pixels, "kernel": kernel, "cin": cin, "cout": cout, "activation": 1}
    work = layers(**shape, input_elements=read, output_elements=pixels)
    return replace(work, live_tiles=np.rint(tiling(target, work).tiles * (1 - zero)).astype(np.int64))


@pytest.mark.parametrize("seed", range(60))
def test_equals_the_formulas_by_hand(seed: int) -> None:
    random = np.random.default_rng(seed)
    target, work = random_target(random), random_layers(random, 40)
    assert Target.from_dict(target.to_dict()) == target
    got = target.price(work)
    for i in range(40):
        layer = SimpleNamespace(**{item.name: getattr(work, item.name)[i].item() for item in fields(work)})
        want = price_by_hand(target, layer)
        assert {name: getattr(got, name)[i].item() for name in want} == want
        causes = [
            want["compute"],
            want["output"],
            want["weights"] + want["activations"],
            want["overhead"],
            0.0,
        ]
        largest = BOUNDS[causes.index(max(causes))] if want["total"] else "none"
        assert BOUNDS[got.bound[i]] == largest
        live = want["live_tiles"] / want["tiles"] if want["tiles"] else 1.0
        peak = target.array.rows * target.array.cols * target.array.tiles_per_cycle
        share = want["macs"] * live * layer.supported / (want["total"] * peak) if want["total"] else 0.0
        assert got.utilisation[i] == pytest.approx(min(share, 1.0))
        assert got.ms[i] == pytest.approx(want["total"] / 500e3)
    assert got.total_ms == pytest.approx(got.ms.sum())


def serial(dataflow: str, rows: int, cols: int) -> Target:
    """Return a target whose array loads, streams and drains one tile after the other."""
    array = {"array__rows": rows, "array__cols": cols, "array__dataflow": dataflow, "array__fill": "serial"}
    return changed(load_target("npu-8x8-dense"), **array, array__reduction="im2col")


# Rows, columns, M, K, N, and the cycles that SCALE-Sim 3.0.0 counts for WS, OS and IS.
SCALE_SIM = (
    (8, 8, 37, 55, 52, 2891, 2415, 2590),
    (8, 4, 31, 42, 25, 2058, 1456, 2064),
    (8, 8, 7, 32, 2, 116, 46, 96),
    (4, 8, 2, 2, 2, 16, 12, 16),
    (16, 16, 1, 57, 25, 376, 174, 284),
    (4, 8, 6, 29, 43, 960, 468, 456),
)


@pytest.mark.parametrize("case", SCALE_SIM)
def test_serial_fill_equals_scale_sim(case: tuple[int, ...]) -> None:
    rows, cols, M, K, N, *cycles = case
    work = layers(pixels=M, cin=K, cout=N)
    assert [serial(flow, rows, cols).price(work).compute for flow in ("ws", "os", "is")] == cycles


def skewed_array(rows: int, cols: int, steps: int, load: int) -> int:
    """Count the cycles until every cell of an array has worked ``steps`` times, one hop per cycle."""
    finish = 0
    for row in range(rows):
        for col in range(cols):
            finish = max([finish, *(load + row + col + step + 1 for step in range(steps))])
    return finish


@given(st.integers(1, 6), st.integers(1, 6), *[st.integers(1, 30)] * 3)
@settings(deadline=None, max_examples=50)
def test_serial_fill_equals_a_count_of_cells(rows: int, cols: int, M: int, K: int, N: int) -> None:
    work = layers(pixels=M, cin=K, cout=N)
    deep, wide = len(range(0, K, rows)), len(range(0, N, cols))
    weight = sum(skewed_array(rows, cols, M, rows) for _ in range(deep * wide))
    output = sum(skewed_array(rows, cols, K, 0) for _ in range(len(range(0, M, rows)) * wide))
    inputs = sum(skewed_array(rows, cols, N, rows) for _ in range(len(range(0, M, cols)) * deep))
    got = [serial(flow, rows, cols).price(work).compute for flow in ("ws", "os", "is")]
    assert got == [weight, output, inputs]


def double_buffered_array(rows: int, cols: int, tiles: int, pixels: int, load: int) -> int:
    """Simulate, cycle by cycle, an array that loads one tile's weights while another's pixels stream.

    A pixel row passes an input register and rows + cols - 1 cells on the longest way to its result.
    """
    cycles, loaded, waiting, streaming = 0, 0, False, 0
    pipeline = [False] * (rows + cols)
    left = tiles
    while left or waiting or streaming or any(pipeline):
        if waiting and not streaming:
            waiting, streaming = False, pixels
        pipeline = [streaming > 0, *pipeline[:-1]]
        streaming -= streaming > 0
        if left and not waiting:
            loaded += 1
        if loaded == load:
            loaded, left, waiting = 0, left - 1, True
        cycles += 1
    return cycles


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 12), st.integers(1, 20), st.integers(0, 3))
@settings(deadline=None, max_examples=100)
def test_overlapped_fill_equals_a_simulation(rows: int, cols: int, live: int, pixels: int, index: int) -> None:
    array = {"array__rows": rows, "array__cols": cols, "array__weight_load_cycles": rows}
    fast = {"sparsity__index_cycles": index, "memory__dram_bytes_per_cycle": 1e9}
    target = changed(load_target("npu-8x8"), **array, **fast)
    # Many tiles that are zero, so that to skip them always pays.
    work = layers(pixels=pixels, cin=200 * rows, cout=cols, live_tiles=live)
    got = target.price(work)
    assert got.listed
    assert got.compute == double_buffered_array(rows, cols, live, pixels, rows + index)


VARIANTS = (
    *(load_target(name) for name in target_names() if name != "cpu"),
    changed(load_target("npu-8x8"), sparsity__index_cycles=3, sparsity__index_bits=0, overhead__launch_us=0.0),
    changed(load_target("npu-8x8-dense"), sparsity__weight_compression=True, sparsity__index_bits=48),
    changed(load_target("npu-8x8"), memory__overlap=False, memory__activation_sram_bytes=3000),
    changed(load_target("npu-8x8"), memory__weight_sram_bytes=900, memory__dram_bytes_per_cycle=0.3),
    changed(load_target("npu-8x8"), array__fill="none", array__reduction="im2col", align__pixels=16),
    *(serial(flow, 4, 8) for flow in ("ws", "os", "is")),
)


@st.composite
def shrunk(draw: st.DrawFn) -> dict[str, list[int]]:
    """Draw a layer and a smaller one: fewer channels of a group, groups, pixels or live tiles, or as many."""
    sizes = {"cin": 96, "cout": 96, "groups": 4, "pixels": 80, "input_elements": 200, "output_elements": 80}
    large = {name: draw(st.integers(1, most)) for name, most in sizes.items()}
    small = {name: draw(st.just(size) | st.integers(0, size)) for name, size in large.items()}
    live = draw(st.just(-1) | st.integers(0, 400))
    less = draw(st.just(live) | st.integers(-1 if live < 0 else 0, live if live >= 0 else 400))
    pair = {name: [large[name], small[name]] for name in sizes}
    for name in ("cin", "cout"):
        pair[name] = [pair[name][side] * pair["groups"][side] for side in (0, 1)]
    vector = {"vector_elements": pair["pixels"]}
    return {**pair, **vector, "live_tiles": [live, less], "kernel": [draw(st.sampled_from((1, 4, 9)))] * 2}


@given(shrunk(), st.sampled_from(OpKind), st.integers(0, 2), st.booleans(), st.sampled_from((True, True, False)))
@settings(deadline=None, max_examples=80)
def test_less_never_costs_more(
    pair: dict[str, list[int]], kind: OpKind, activation: int, residual: bool, supported: bool
) -> None:
    work = layers(kind=kind, activation=activation, residual=residual, supported=supported, **pair)
    totals = [target.price(work).total for target in VARIANTS]
    assert [(target, total) for target, total in zip(VARIANTS, totals, strict=True) if total[1] > total[0]] == []


@pytest.mark.parametrize("target", VARIANTS, ids=lambda target: target.name)
def test_less_never_costs_more_in_many_layers(target: Target) -> None:
    random = np.random.default_rng(0)
    count = 20_000
    sizes = {
        "pixels": 80,
        "input_elements": 200,
        "output_elements": 80,
        "vector_elements": 90,
        "live_tiles": 150,
    }
    large = {name: random.integers(1, most, count) for name, most in sizes.items()}
    large |= {name: random.integers(1, 96, count) for name in ("cin", "cout")} | {"groups": np.ones(count, int)}
    small = {
        name: np.where(random.random(count) < 0.5, size, random.integers(0, size + 1)) for name, size in large.items()
    }
    same = {"kind": random.integers(0, 4, count), "kernel": random.integers(1, 10, count)}
    before, after = target.price(layers(**large, **same)), target.price(layers(**small, **same))
    assert not (after.total > before.total).any()
    assert (after.total < before.total).mean() > 0.3


def speed_ups(target: Target) -> list[float]:
    """Return how much faster ResNet-18 is at 50, 75 and 90 % zero tiles."""
    dense = target.price(resnet18(target)).total_ms
    return [dense / target.price(resnet18(target, zero)).total_ms for zero in (0.5, 0.75, 0.9)]


def test_block_sparsity_pays_as_published() -> None:
    target = load_target("npu-8x8")
    assert speed_ups(target) == pytest.approx([2.00, 3.99, 9.82], rel=0.01)
    assert speed_ups(without_skipping(target)) == [1.0, 1.0, 1.0]
    assert speed_ups(load_target("npu-8x8-dense")) == [1.0, 1.0, 1.0]
    slow = changed(target, memory__dram_bytes_per_cycle=1.0, memory__activation_sram_bytes=0)
    slow = changed(slow, memory__weight_sram_bytes=2**40, overhead__launch_us=0.0)
    assert speed_ups(slow) == pytest.approx([1.94, 3.69, 5.58], abs=0.005)


def test_broadcasts() -> None:
    target = load_target("npu-8x8")
    random = np.random.default_rng(0)
    cin, live = random.integers(1, 200, (5, 7)), random.integers(-1, 400, (5, 1))
    grid = target.price(layers(cin=cin, cout=np.arange(7) * 9, live_tiles=live, pixels=50))
    assert grid.total.shape == grid.bound.shape == grid.overhead.shape == grid.tiles.shape == (5, 7)
    for row, col in np.ndindex(5, 7):
        one = layers(cin=cin[row, col], cout=col * 9, live_tiles=live[row, 0], pixels=50)
        assert target.price(one).total == grid.total[row, col]


def test_prices_many_layers_at_once() -> None:
    random = np.random.default_rng(0)
    work = layers(cin=random.integers(1, 512, (1000, 100)), live_tiles=random.integers(-1, 99, (1000, 100)))
    start = time.process_time()
    load_target("npu-8x8").price(work)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cin": -1}, "cin holds -1"),
        ({"live_tiles": [3, -2]}, "live_tiles holds -2"),
        ({"cout": 8.0}, "cout holds float64, not whole numbers"),
        ({"kind": 4}, "kind holds 4, the codes end at 3"),
        ({"activation": 3}, "activation holds 3, the codes end at 2"),
    ],
)
def test_workload_refuses(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        layers(**given)


def test_workload_refuses_shapes_that_do_not_broadcast() -> None:
    with pytest.raises(ValueError, match="shape mismatch"):
        layers(cin=[1, 2], cout=[1, 2, 3])
