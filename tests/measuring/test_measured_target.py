"""The target `cpu`: priced from its table, never rising as work falls, and what its table's file may be."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartc.core.errors import UserError
from smartc.core.records import encode
from smartc.measuring import measured_target
from smartc.measuring.cost_table_file import read_table, table_path, write_table
from smartc.measuring.measured_target import default_backends, with_costs
from smartc.targets.measured import MeasuredTarget
from smartc.targets.target import load_target, without_skipping
from smartc.targets.workload import OpKind, Workload
from tests.support.cost_tables import by_work, table, target


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the table of this test apart."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "smartc" / "cpu.json"


def work(**fields: Any) -> Workload:
    """Return one layer or several."""
    usual = {"kind": 0, "pixels": 196, "kernel": 9, "cin": 64, "cout": 64, "groups": 1}
    return Workload(**{**usual, "input_elements": 196, "output_elements": 196, **fields})


def test_prices_a_kernel_as_it_was_measured() -> None:
    cpu = target(by_work, blocks=False)
    cost = cpu.price(work(pixels=49, cin=64, cout=256))
    assert cost.total_ms == pytest.approx((5 + 9 * 49 * 64 * 256 / 5e4 + 49 * 320 / 1e6) / 1e3)
    assert (int(cost.tiles), int(cost.live_tiles), int(cost.macs)) == (9 * 8 * 32, 9 * 8 * 32, 9 * 49 * 64 * 256)
    assert int(cost.weight_bytes) == 4 * 9 * 64 * 256
    assert float(cpu.price(work(kind=OpKind.FREE)).total) == 0


def test_few_rows_take_what_linear_layers_do() -> None:
    cpu = target(lambda point: 3 * by_work(point) if point.kind == "linear" else by_work(point), blocks=False)
    rows = cpu.price(work(pixels=1, kernel=1, cin=64, cout=256)).total_ms
    assert rows == pytest.approx(3 * (5 + 64 * 256 / 5e4 + 320 / 1e6) / 1e3)
    larger = cpu.price(work(pixels=1, kernel=1, cin=512, cout=2048)).total_ms
    assert larger == pytest.approx(16 * 3 * (5 + 256 * 256 / 5e4 + 512 / 1e6) / 1e3)
    many = cpu.price(work(pixels=784, kernel=1, cin=64, cout=256)).total_ms
    assert many == pytest.approx((5 + 784 * 64 * 256 / 5e4 + 784 * 320 / 1e6) / 1e3)


def test_factors_are_of_layers_and_no_part_of_the_description() -> None:
    cpu = target(by_work, blocks=False)
    scaled = replace(cpu, factors={"slow": 2.5})
    assert scaled.factors_of(("slow", "other")).tolist() == [2.5, 1.0]
    assert scaled.to_dict() == cpu.to_dict()
    two = {"cin": np.array([64, 64]), "factor": scaled.factors_of(("slow", "other"))}
    slow, other = scaled.price(work(**two)).total
    assert slow == pytest.approx(2.5 * other)
    assert other == pytest.approx(float(cpu.price(work()).total))


def test_skips_zero_tiles_where_that_is_faster() -> None:
    cpu = target(by_work)
    few, all_of_them = cpu.price(work(live_tiles=100)), without_skipping(cpu).price(work(live_tiles=100))
    assert few.total < 0.5 * all_of_them.total
    assert few.listed
    assert int(few.weight_bytes) == 100 * (4 * 64 + 4)
    slow = target(lambda point: by_work(point) * (100 if point.kind == "packed" else 1))
    assert not slow.price(work(live_tiles=100)).listed


@given(seed=st.integers(0, 2**32 - 1), blocks=st.booleans())
def test_time_never_rises_when_channels_or_live_tiles_fall(seed: int, blocks: bool) -> None:
    random = np.random.default_rng(seed)
    cpu = target(lambda point: by_work(point) * random.uniform(0.3, 3), blocks=blocks)
    kind, kernel = random.integers(0, 4, 200), random.choice([1, 3, 9, 25, 49], 200)
    large = {
        name: random.integers(1, most, 200)
        for name, most in {"pixels": 4000, "cin": 600, "cout": 600, "vector_elements": 4000}.items()
    }
    small = {name: random.integers(1, values + 1) for name, values in large.items()}
    tiles = random.integers(0, 9000, 200)
    fewer = random.integers(0, tiles + 1)
    before = cpu.price(work(kind=kind, kernel=kernel, live_tiles=tiles, **large)).total
    after = cpu.price(work(kind=kind, kernel=kernel, live_tiles=fewer, **small)).total
    assert (after <= before * (1 + 1e-9)).all()


@pytest.mark.parametrize("block", [8, 16, 32])
def test_channels_are_kept_in_steps_of_what_kernels_compute_at_once(block: int) -> None:
    costs = table(lambda point: by_work(replace(point, cout=-(-point.cout // block) * block)))
    assert costs.step == block
    cpu = MeasuredTarget.of(load_target("cpu"), costs, blocks=True)
    assert (cpu.align.cin, cpu.align.cout) == (block, block)
    assert (cpu.array.rows, cpu.array.cols) == (8, 8)


def test_without_a_table_nothing_is_priced() -> None:
    with pytest.raises(ValueError, match="cpu has no cost table"):
        load_target("cpu").price(work())


def test_says_what_its_figures_are() -> None:
    costs = replace(table(by_work), processor="A Processor")
    cpu = MeasuredTarget.of(load_target("cpu"), costs, blocks=True)
    assert cpu.assumption == (
        "cpu is measured on this machine, A Processor, on one thread; its table of kernels is of 2026-01-02"
    )
    assert cpu.to_dict()["costs"]["processor"] == "A Processor"
    assert cpu.supports("anything")


def test_a_table_round_trips(cache: Path) -> None:
    assert read_table() is None
    assert write_table(table(by_work)) == cache == table_path()
    assert read_table() == table(by_work)


def damaged(content: dict[str, Any]) -> dict[str, Any]:
    """Return a table without one of its points."""
    return {**content, "points": content["points"][1:]}


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (lambda c: {**c, "schema": 7}, "its schema is 7 and this version reads 3"),
        (lambda c: {**c, "schema": 2}, "its schema is 2 and this version reads 3"),
        (lambda c: [], "the whole is list and must be an object"),
        (lambda c: {**c, "processor": "Z80"}, "it was measured on Z80, and this is A Processor"),
        (lambda c: {**c, "versions": {"onnxruntime": "0"}}, "it was measured with onnxruntime 0, and 1 is installed"),
        (
            lambda c: {**c, "versions": {"onnxruntime": "1"}},
            "it was measured without apache-tvm, which is installed now",
        ),
        (lambda c: {**c, "date": 3}, "date is int and must be a string"),
        (damaged, "its measurements are damaged: 26 of 27 sizes were measured"),
        (
            lambda c: {**c, "points": [point for point in c["points"] if point["kind"] != "step"]},
            "its measurements are damaged: no step kernel was measured",
        ),
        (
            lambda c: {**c, "points": [point for point in c["points"] if point["kind"] != "linear"]},
            "its measurements are damaged: no linear kernel was measured",
        ),
        (lambda c: {**c, "points": []}, "its measurements are damaged: no matrix kernel was measured"),
        (
            lambda c: {**c, "points": [{**c["points"][0], "us": 0}, *c["points"][1:]]},
            "its measurements are damaged: a time is not a positive number",
        ),
    ],
)
def test_a_table_that_is_no_use(
    cache: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], Any], fact: str
) -> None:
    monkeypatch.setattr("smartc.measuring.cost_table_file.processor_name", lambda: "A Processor")
    monkeypatch.setattr(
        "smartc.measuring.cost_table_file.installed_versions", lambda: {"onnxruntime": "1", "apache-tvm": "2"}
    )
    good = replace(table(by_work), processor="A Processor", versions={"onnxruntime": "1", "apache-tvm": "2"})
    cache.parent.mkdir()
    cache.write_text(json.dumps(change(encode(good))))
    with pytest.raises(UserError) as refused:
        read_table()
    assert str(refused.value) == f"{cache}: {fact}. Run smartc targets calibrate cpu."


def test_a_file_that_is_no_table(cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("{")
    with pytest.raises(UserError) as refused:
        read_table()
    assert str(refused.value) == f"{cache}: it is not JSON. Run smartc targets calibrate cpu."


def test_a_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError) as refused:
        write_table(table(by_work))
    place = tmp_path / "file" / "smartc"
    assert str(refused.value) == (
        f"{place}: the folder cannot be made (Not a directory). Set XDG_CACHE_HOME to a folder of yours."
    )


def test_measures_once_where_there_is_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(measured_target, "calibrate", lambda watch: calls.append(watch) or table(by_work))
    for _ in range(2):
        found = with_costs(load_target("cpu"), ("onnx", "tvm"), print)
        assert isinstance(found, MeasuredTarget)
        assert found.sparsity.zero_tile_skip
    assert calls == [print]


def test_blocks_pay_only_with_tvm(monkeypatch: pytest.MonkeyPatch) -> None:
    write_table(table(by_work))
    cpu, npu = load_target("cpu"), load_target("npu-8x8")
    assert not with_costs(cpu, ("onnx",)).sparsity.zero_tile_skip
    assert with_costs(npu, ("onnx",)) is npu
    for installed, backends in ((True, ("onnx", "tvm")), (False, ("onnx",))):
        monkeypatch.setattr(measured_target, "has_tvm", lambda installed=installed: installed)
        assert default_backends(cpu) == backends
        assert default_backends(npu) == ("onnx",)
        assert with_costs(cpu, None).sparsity.zero_tile_skip == installed
