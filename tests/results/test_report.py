"""The report keeps its figures through JSON and CSV, checks its sums and refuses what is no report."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smartc.core.errors import InternalError, UserError
from smartc.results.csv_rows import CSV_HEADER
from smartc.results.figures import SIDES
from smartc.results.report import Report, Verification
from tests.support.synthetic_report import learned, residual_report


@pytest.fixture(scope="module")
def report() -> Report:
    return residual_report()


def test_json_round_trip(report: Report, tmp_path: Path) -> None:
    report.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == report
    assert json.loads((tmp_path / "report.json").read_text()) == report.to_dict()


def test_json_has_the_published_keys(report: Report) -> None:
    content = report.to_dict()
    assert content["schema"] == 1
    latency = {"kind", "unit", "dense", "compiled", "without_skipping", "file", "spread", "samples"}
    assert content["latency"].keys() == latency
    layer = content["layers"][0]
    assert layer.keys() == {"name", "op", "decision", "reason", "dense", "compiled"}
    assert {"shape", "macs", "weight_bytes", "cycles", "ms", "bound", "utilisation"} <= layer["dense"].keys()
    assert layer["dense"].keys() == layer["compiled"].keys()
    assert {"stage", "max_abs_error", "max_rel_error", "tolerance"} <= content["verify"][0].keys()


def test_not_a_number_survives_as_null(report: Report, tmp_path: Path) -> None:
    odd = replace(report, agreement=replace(report.agreement, cosine=math.nan, max_abs=math.inf))
    odd.save(tmp_path / "report.json")
    read = Report.load(tmp_path / "report.json").agreement
    assert math.isnan(read.cosine)
    assert math.isnan(read.max_abs)


def test_optional_keys_and_later_keys(report: Report) -> None:
    content = report.to_dict() | {"from_a_later_version": 1}
    del content["latency"]["without_skipping"]
    assert Report.from_dict(content).latency == replace(report.latency, without_skipping=None)


def test_learning_survives(report: Report, tmp_path: Path) -> None:
    learning = learned(layers=3, moments=7)
    first = replace(learning.curve[0], loss=None)
    whole = replace(report, learning=replace(learning, samples=None, curve=(first, *learning.curve[1:])))
    whole.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == whole
    content = whole.to_dict()
    assert content["learning"]["curve"][0].keys() == {"step", "loss", "temperature", "fractional", "density"}
    del content["learning"]
    assert Report.from_dict(content) == report


def test_losses_are_those_that_are_known() -> None:
    learning = learned(moments=4)
    odd = (None, math.nan, math.inf, 0.5)
    curve = [replace(moment, loss=loss) for moment, loss in zip(learning.curve, odd, strict=True)]
    assert replace(learning, curve=tuple(curve)).losses == (0.5,)


@pytest.mark.parametrize(
    ("path", "value", "fact"),
    [
        ("learner", None, "learning.learner is NoneType and must be a string"),
        ("steps", 1.5, "learning.steps is float and must be an integer"),
        ("samples", "64", "learning.samples is str and must be an integer"),
        ("layers.1", 3, "learning.layers[1] is int and must be a string"),
        ("curve.2", [], "learning.curve[2] is list and must be an object"),
        ("curve.2.loss", "low", "learning.curve[2].loss is str and must be a number"),
        ("curve.2.density.0", "x", "learning.curve[2].density[0] is str and must be a number"),
        ("curve.2.density", [0.5], "learning.curve[2].density has 1 items and must have 3"),
    ],
)
def test_wrong_learning_is_named(report: Report, path: str, value: object, fact: str) -> None:
    content = json.loads(json.dumps(replace(report, learning=learned(layers=3, moments=4)).to_dict()))
    _set(content["learning"], path, value)
    with pytest.raises(UserError) as caught:
        Report.from_dict(content)
    assert str(caught.value) == f"report.json: {fact}. Restore the file, or compile again."


def _set(content: Any, path: str, value: object) -> None:
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    for key in parents:
        content = content[key]
    content[last] = value


@pytest.mark.parametrize(
    ("path", "value", "fact"),
    [
        ("model", 3, "model is int and must be a string"),
        ("layers", {}, "layers is dict and must be a list"),
        ("layers.1", [], "layers[1] is list and must be an object"),
        ("layers.1.dense.macs", 1.5, "layers[1].dense.macs is float and must be an integer"),
        ("layers.1.dense.macs", True, "layers[1].dense.macs is bool and must be an integer"),
        ("layers.0.dense.shape.1", "x", "layers[0].dense.shape[1] is str and must be an integer"),
        ("layers.0.dense.tiles", [1], "layers[0].dense.tiles has 1 items and must have 2"),
        (
            "latency.kind",
            "guessed",
            "latency.kind is 'guessed' and must be one of 'simulated', 'estimated', 'measured'",
        ),
        ("latency.dense", "1 ms", "latency.dense is str and must be a number"),
        ("artifacts.model.onnx", 1, None),
        ("seconds.analysis", "x", "seconds.analysis is str and must be a number"),
    ],
)
def test_wrong_values_are_named(report: Report, path: str, value: object, fact: str | None) -> None:
    content = json.loads(json.dumps(report.to_dict()))
    if fact is None:
        content["artifacts"] = {"model.onnx": "large"}
        fact = "artifacts.model.onnx is str and must be an integer"
    else:
        _set(content, path, value)
    with pytest.raises(UserError) as caught:
        Report.from_dict(content)
    assert str(caught.value) == f"report.json: {fact}. Restore the file, or compile again."


def test_every_key_is_needed(report: Report) -> None:
    for key in report.to_dict().keys() - {"learning", "approximation"}:
        content = report.to_dict()
        del content[key]
        with pytest.raises(UserError) as caught:
            Report.from_dict(content, "build/report.json")
        message = f"build/report.json: {key} is missing. Restore the file, or compile again."
        assert str(caught.value) == message


def test_missing_nested_key(report: Report) -> None:
    content = report.to_dict()
    del content["layers"][2]["compiled"]["causes"]["weights"]
    with pytest.raises(UserError, match=r"^report.json: layers\[2\].compiled.causes.weights is missing\. "):
        Report.from_dict(content)


def test_other_schema(report: Report) -> None:
    with pytest.raises(UserError) as caught:
        Report.from_dict(report.to_dict() | {"schema": 2})
    assert str(caught.value) == (
        "report.json: its schema is 2 and this version reads 1. "
        "Read it with the version of smartc that wrote it, or compile again."
    )


@pytest.mark.parametrize("data", [None, [], "x", 3])
def test_not_an_object(data: object) -> None:
    with pytest.raises(UserError, match=f"the whole is {type(data).__name__} and must be an object"):
        Report.from_dict(data)


@pytest.mark.parametrize("content", [b"", b"not JSON", b"\xff\xfe", b"[" * 100_000])
def test_load_refuses_what_is_not_json(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        Report.load(path)
    fix = "Name the report.json of a folder that smartc compile wrote."
    assert str(caught.value) == f"{path}: it is not JSON. {fix}"


@pytest.mark.parametrize(
    ("act", "fact"),
    [
        (lambda report, path: Report.load(path), "it cannot be read: Is a directory"),
        (lambda report, path: Report.load(path / "x"), "it cannot be read: No such file or directory"),
        (lambda report, path: report.save(path), "it cannot be written: Is a directory"),
    ],
)
def test_files_that_cannot_be_used(
    report: Report, act: Callable[[Report, Path], object], fact: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        act(report, tmp_path)
    assert caught.value.fact == fact


def test_layers_sum_to_totals(report: Report) -> None:
    report.check_sums()
    for side in SIDES:
        figures = [getattr(layer, side) for layer in report.layers]
        assert math.isclose(sum(f.ms for f in figures), getattr(report.latency, side), rel_tol=1e-12)
        assert sum(f.macs for f in figures) == getattr(report.summary.macs, side)
        assert sum(f.weight_bytes for f in figures) == getattr(report.summary.weight_bytes, side)
        assert math.isclose(sum(report.share(layer, side) for layer in report.layers), 1, rel_tol=1e-12)


def test_check_sums_names_the_total_that_differs(report: Report) -> None:
    wrong = replace(report, summary=replace(report.summary, macs=replace(report.summary.macs, compiled=7)))
    found = report.summary.macs.compiled
    with pytest.raises(InternalError) as caught:
        wrong.check_sums()
    assert caught.value.where == "macs.compiled"
    assert caught.value.fact == f"the layers add up to {found}, the total is 7"
    longer = replace(report, latency=replace(report.latency, dense=report.latency.dense * 1.001))
    with pytest.raises(InternalError, match=r"^latency\.dense: "):
        longer.check_sums()


def test_layer_by_name(report: Report) -> None:
    assert report.layer("layer2.0.conv1").name == "layer2.0.conv1"
    with pytest.raises(UserError) as caught:
        report.layer("layer2.0.cnv1")
    assert str(caught.value) == (
        "resnet20.pt2: no layer is called 'layer2.0.cnv1'. "
        "The nearest are layer2.0.conv1, layer3.0.conv1, layer2.2.conv1."
    )


def test_csv_columns_add_up(report: Report) -> None:
    text = report.to_csv()
    assert tuple(text.splitlines()[0].split(",")) == CSV_HEADER
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["name"] for row in rows] == [layer.name for layer in report.layers]
    for side in SIDES:
        assert sum(int(row[f"{side}_macs"]) for row in rows) == getattr(report.summary.macs, side)
        total_ms = math.fsum(float(row[f"{side}_ms"]) for row in rows)
        assert math.isclose(total_ms, getattr(report.latency, side), rel_tol=1e-12)
    first = rows[2]
    assert (first["dense_shape"], first["compiled_shape"]) == ("1x16x28x28", "1x8x28x28")
    assert (first["dense_weight_shape"], first["compiled_total_tiles"]) == ("16x16x3x3", "18")
    assert {row["latency_kind"] for row in rows} == {"simulated"}


def test_csv_header_is_stable() -> None:
    assert CSV_HEADER[:8] == (
        *("name", "op", "decision", "reason", "latency_kind", "speed_up"),
        *("dense_shape", "dense_weight_shape"),
    )
    assert CSV_HEADER[22:] == (
        *("compiled_shape", "compiled_weight_shape", "compiled_macs", "compiled_weight_bytes", "compiled_ms"),
        *("compiled_share", "compiled_cycles", "compiled_compute_cycles", "compiled_output_cycles"),
        *("compiled_weights_cycles", "compiled_activations_cycles", "compiled_overhead_cycles"),
        *("compiled_bound", "compiled_utilisation", "compiled_live_tiles", "compiled_total_tiles"),
    )


def test_csv_quotes_commas_and_quotes(report: Report) -> None:
    odd = replace(report.layers[0], reason='a "smaller" cut, or\nnone')
    rows = list(csv.DictReader(io.StringIO(replace(report, layers=(odd,)).to_csv())))
    assert rows[0]["reason"] == 'a "smaller" cut, or\nnone'


def test_speed_up(report: Report) -> None:
    assert report.latency.speed_up == report.latency.dense / report.latency.compiled
    assert report.layer("flatten").speed_up == 1
    layer = report.layers[0]
    assert replace(layer, compiled=replace(layer.compiled, ms=0.0)).speed_up == math.inf


@pytest.mark.parametrize(("error", "passed"), [(1e-11, True), (1e-10, True), (2e-10, False), (math.nan, False)])
def test_verification_passes_within_tolerance(error: float, passed: bool) -> None:
    assert Verification("removed", 0.0, error, 1e-10, "seeded").passed is passed
