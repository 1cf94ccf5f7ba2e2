"""Any number of samples runs in batches of bounded size, to the same outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from smartc.artifact import run_in_batches as module
from smartc.artifact.run_in_batches import run_in_batches
from smartc.artifact.runner import Runner, Wanted
from smartc.core.errors import UserError

FREE, FIXED = Wanted("x", "float32", (None, 3)), Wanted("x", "float32", (7, 3))
TABLE = Wanted("t", "float32", (3,))


def _runner(sizes: list[int], *inputs: Wanted, scalar: bool = False) -> Runner:
    """Return a model that doubles what it is given, and notes how many samples it is given at a time."""

    def call(arrays: Mapping[str, Any]) -> dict[str, Any]:
        sizes.append(len(arrays["x"]))
        return {"y": arrays["x"].sum() if scalar else arrays["x"] * 2}

    return Runner("model", inputs, call)


@pytest.mark.parametrize(("count", "expected"), [(1, [1]), (4, [4]), (9, [4, 4, 1])])
def test_samples_come_in_batches(count: int, expected: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SAMPLES", 4)
    x, sizes, seen = np.arange(count * 3, dtype=np.float32).reshape(count, 3), [], []
    arrays = {"x": x, "t": np.ones(3, np.float32)}
    outputs = run_in_batches(_runner(sizes, FREE, TABLE), arrays, lambda *moment: seen.append(moment))
    assert np.array_equal(outputs["y"], x * 2)
    assert sizes == expected
    assert seen == ([] if len(expected) == 1 else [(4, 9), (8, 9), (9, 9)])


def test_large_samples_come_in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 25)
    sizes: list[int] = []
    run_in_batches(_runner(sizes, FREE), {"x": np.zeros((5, 3), np.float32)})
    assert sizes == [2, 2, 1]


def test_a_fixed_batch_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SAMPLES", 4)
    sizes: list[int] = []
    run_in_batches(_runner(sizes, FIXED), {"x": np.zeros((7, 3), np.float32)})
    assert sizes == [7]


def test_an_output_without_samples_is_refused_where_there_are_several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SAMPLES", 4)
    arrays = {"x": np.zeros((4, 3), np.float32)}
    assert run_in_batches(_runner([], FREE, scalar=True), arrays)["y"] == 0
    with pytest.raises(UserError) as caught:
        run_in_batches(_runner([], FREE, scalar=True), {"x": np.zeros((5, 3), np.float32)})
    fact = "model: its output y has no axis of samples, so that batches cannot be put together."
    assert str(caught.value) == f"{fact} Give at most 4 samples at a time."
