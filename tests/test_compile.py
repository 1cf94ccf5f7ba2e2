"""The pipeline as its users call it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import smartc
from smartc.core.errors import InternalError, UserError
from smartc.passes import remove_channels
from tests.support.oracle import FLOAT32_TOLERANCE, assert_equals_masked, relative_error
from tests.support.random_networks import random_recipe
from tests.support.zoo import build

NAMES = ("residual_bottlenecks", "c2f_chunk", "squeeze_excite_linear", "shufflenet_unit_view", "dictionary_output")


@pytest.fixture(scope="module")
def network() -> tuple[nn.Module, tuple[Any, ...]]:
    """Return a residual network in float32."""
    return build("residual_bottlenecks", dtype=torch.float32)


@pytest.fixture(scope="module")
def compiled(network: tuple[nn.Module, tuple[Any, ...]]) -> smartc.Compiled:
    """Return it compiled, with ONNX."""
    return smartc.compile(network[0], network[1], target="npu-8x8", latency="0.6x")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_compiled_equals_the_masked_original(name: str) -> None:
    module, inputs = build(name)
    result = smartc.compile(module, inputs, target="npu-8x8", backends=())
    assert result.plan.tensors
    assert_equals_masked(module, inputs, result)


def test_report_adds_up_and_nothing_is_slower(compiled: smartc.Compiled) -> None:
    report = compiled.report
    report.check_sums()
    assert report.latency.compiled <= 0.6 * report.latency.dense * (1 + 1e-9)
    assert all(layer.compiled.ms <= layer.dense.ms for layer in report.layers)
    assert {proof.stage for proof in report.verify} == {
        "masked == removed (float64)",
        "masked == .pt2",
        "masked == ONNX Runtime",
    }
    assert all(proof.passed for proof in report.verify)
    assert all(layer.reason for layer in report.layers)


def test_kept_counts_fill_tiles_or_say_why(compiled: smartc.Compiled) -> None:
    for group in compiled.plan.groups:
        assert group.kept % 8 == 0 or group.kept == group.channels or "tile" in group.reason
        assert group.reason


@pytest.mark.slow
@pytest.mark.parametrize("granularity", ["channel", "8x8"])
@pytest.mark.parametrize("kind", ["latency", "macs", "bytes"])
@pytest.mark.parametrize("seed", [2, 3])
def test_random_networks_meet_their_budget_or_say_what_is_possible(seed: int, kind: str, granularity: str) -> None:
    module, inputs = random_recipe(seed, 4).build()

    def compiled_to(share: str) -> smartc.Compiled:
        budget: dict[str, Any] = {kind: f"{share}x"}
        return smartc.compile(module, inputs, target="npu-8x8", granularity=granularity, backends=(), **budget)

    share = "0.6"
    try:
        result = compiled_to(share)
    except UserError as error:
        found = re.search(r"at (?:best|least) ([\d.]+)x", str(error))
        assert found
        assert float(found[1]) > 0.6
        share = found[1]
        result = compiled_to(share)
    report = result.report
    change = {"latency": report.latency, "macs": report.summary.macs, "bytes": report.summary.weight_bytes}[kind]
    assert change.compiled <= float(share) * change.dense * (1 + 1e-9)
    assert all(layer.compiled.ms <= layer.dense.ms * (1 + 1e-9) for layer in report.layers)
    assert_equals_masked(module, inputs, result)


@pytest.mark.parametrize(
    ("granularity", "width", "note"),
    [
        ("16x16", 32, "no blocks of 16x16 can be removed"),
        ("channel", 32, "no channel can be removed"),
        ("8x8", 128, None),
    ],
)
def test_a_share_of_nothing_is_told(granularity: str, width: int, note: str | None) -> None:
    module, x = nn.Sequential(nn.Linear(width, width)).eval(), torch.randn(2, width)
    report = smartc.compile(module, x, target="npu-8x8", granularity=granularity, backends=()).report
    assert (report.budget.reached == "0") == (note is not None)
    assert [remark.text for remark in report.remarks if remark.where == "budget"] == [note] * bool(note)


def test_weights_that_leave_the_range_of_their_type_are_the_users() -> None:
    module = nn.Sequential(nn.Linear(32, 64), nn.Linear(64, 8)).eval()
    for weight in module.parameters():
        nn.init.constant_(weight, 1e30)
    with pytest.raises(UserError) as refused:
        smartc.compile(module, torch.randn(2, 32), target="npu-8x8", backends=("pt2",))
    assert str(refused.value) == (
        "Sequential: its outputs are not finite in float32, as they are in float64: its weights are too large. "
        "Check that it is trained and not damaged."
    )


@pytest.mark.slow
def test_monotone_over_budgets(network: tuple[nn.Module, tuple[Any, ...]]) -> None:
    model = smartc.trace(*network)
    for budgets in ([{"latency": f"{share:.2f}x"} for share in np.linspace(1, 0.3, 8)],
                    [{"sparsity": float(share)} for share in np.linspace(0, 0.7, 8)]):  # fmt: skip
        times = [
            smartc.compile(model, target="npu-8x8", backends=(), **budget).report.latency.compiled for budget in budgets
        ]
        assert times == sorted(times, reverse=True)


def test_a_loaded_build_is_saved_whole(tmp_path: Path) -> None:
    """Packed weights included, and the report states the size of every file of the model."""
    net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 32))
    packed = smartc.compile(
        net, torch.randn(2, 64), target="npu-8x8", granularity="8x8", sparsity=0.7, backends=("pt2",)
    )
    packed.save(tmp_path / "first")
    smartc.load(tmp_path / "first").save(tmp_path / "second")
    for name in ("model.pt2", "weights.safetensors"):
        assert (tmp_path / "second" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()
    sizes = smartc.load(tmp_path / "second").report.artifacts
    assert sizes == {name: (tmp_path / "first" / name).stat().st_size for name in ("model.pt2", "weights.safetensors")}


def test_saved_build_is_complete_and_loads(compiled: smartc.Compiled, tmp_path: Path) -> None:
    compiled.save(tmp_path / "build")
    files = {path.name for path in (tmp_path / "build").iterdir()}
    assert files == {"manifest.json", "model.onnx", "model.pt2", "plan.json", "report.html", "report.json"}
    again = smartc.load(tmp_path / "build")
    inputs = torch.randn(5, *compiled.model.examples[0].shape[1:])
    assert relative_error(compiled(inputs), again(inputs)) <= FLOAT32_TOLERANCE
    assert again.plan.to_dict() == compiled.plan.to_dict()
    assert again.report.layers == compiled.report.layers
    program = torch.export.load(tmp_path / "build" / "model.pt2")
    assert relative_error(compiled(inputs), program.module()(inputs)) <= FLOAT32_TOLERANCE
    again.save(tmp_path / "copy")
    assert smartc.load(tmp_path / "copy").plan == again.plan


def test_onnx_has_the_users_names_and_a_free_batch(compiled: smartc.Compiled, tmp_path: Path) -> None:
    compiled.save(tmp_path / "build")
    file = str(tmp_path / "build" / "model.onnx")
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["smartc.target"] == "npu-8x8"
    assert properties["smartc.plan"] == compiled.plan.sha256
    layers = {layer.name for layer in compiled.report.layers if layer.op == "conv2d"}
    convolutions = {node.name.removesuffix("/Conv") for node in model.graph.node if node.op_type == "Conv"}
    assert convolutions == layers
    assert not [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for batch in (1, 4):
        inputs = torch.randn(batch, *compiled.model.examples[0].shape[1:])
        (output,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
        assert np.allclose(output, compiled(inputs).detach().numpy(), atol=1e-4)


def test_without_a_backend_save_still_lowers_to_pt2(network: tuple[nn.Module, tuple[Any, ...]], tmp_path: Path) -> None:
    result = smartc.compile(*network, target="npu-8x8", backends=())
    assert [proof.stage for proof in result.report.verify] == ["masked == removed (float64)"]
    result.save(tmp_path / "build")
    saved = smartc.load(tmp_path / "build")
    assert [proof.stage for proof in saved.report.verify] == ["masked == removed (float64)", "masked == .pt2"]


def test_a_fault_in_removal_stops_the_compilation(
    network: tuple[nn.Module, tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest: Callable[..., torch.Tensor] = remove_channels._take

    def wrong(tensor: torch.Tensor, axis: int, kept: Any) -> torch.Tensor:
        return honest(tensor, axis, kept).flip(axis) if axis == 1 else honest(tensor, axis, kept)

    monkeypatch.setattr(remove_channels, "_take", wrong)
    result = smartc.compile(*network, target="npu-8x8", backends=())
    with pytest.raises(InternalError, match="its output differs from the masked original's by"):
        _ = result.module


def test_the_users_model_is_left_as_it_was(network: tuple[nn.Module, tuple[Any, ...]]) -> None:
    module, inputs = network
    before = {name: value.clone() for name, value in module.state_dict().items()}
    smartc.compile(module, inputs, target="npu-8x8", backends=())
    after = module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, "sparsity=1.0: not a share of channels. Give a number from 0 to less than 1."),
        ({"latency": "fast"}, "latency='fast': not a latency. Give a share such as 0.6x or a time such as 1.5ms."),
        (
            {"granularity": "row"},
            "granularity='row': not known. "
            "Choose one of auto, channel, block, RxC such as 16x8, RxC/shared, or n:m such as 2:4.",
        ),
        (
            {"granularity": "2:4", "sparsity": 0.7},
            "granularity='2:4': 2:4 removes 50.0% of the weights, and no other budget can be met by it. "
            "Leave the budget out.",
        ),
        ({"learner": "pdp"}, "learner='pdp': learns from data, and none is given. Add data=..."),
        ({"learner": "luck"}, "learner='luck': not known. Choose one of sp-lamp, magnitude."),
        ({"backends": ("c",)}, "backends=('c',): not known. Choose one of pt2, onnx, tvm."),
        ({"sparsity": 0.5, "latency": "0.5x"}, "sparsity=..., latency=...: both a sparsity and a latency are given."),
    ],
)
def test_wrong_options(network: tuple[nn.Module, tuple[Any, ...]], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        smartc.compile(*network, target="npu-8x8", **options)
    assert str(caught.value).startswith(message)


def test_an_impossible_time_names_the_best(network: tuple[nn.Module, tuple[Any, ...]]) -> None:
    with pytest.raises(UserError, match=r"latency='0.001x': removing channels makes the model at best 0\.\d+x"):
        smartc.compile(*network, target="npu-8x8", latency="0.001x")


def test_data_and_metric_go_into_the_report(network: tuple[nn.Module, tuple[Any, ...]]) -> None:
    module, inputs = network
    data = torch.randn(6, *inputs[0].shape[1:])
    result = smartc.compile(
        module,
        inputs,
        target="npu-8x8",
        granularity="channel",
        backends=(),
        data=data,
        settings=smartc.Settings(steps=2),
        evaluate=lambda model: float(model(data).numel()),
    )
    assert result.report.agreement.inputs == 6
    assert result.report.agreement.source == "the data given"
    assert result.report.evaluation is not None
    assert result.report.evaluation.dense == result.report.evaluation.compiled == float(module(data).numel())
    with pytest.raises(UserError) as caught:
        smartc.compile(module, inputs, target="npu-8x8", backends=(), data=torch.randn(6, 1, 1, 1))
    assert str(caught.value) == (
        "data: input has the shape 6x1x1x1 and the model takes input: float32 Nx3x16x16. Reshape it."
    )


@pytest.mark.slow
def test_an_operator_that_onnx_lacks_is_told(tmp_path: Path) -> None:
    module, inputs = build("adaptive_max_pool", dtype=torch.float32)
    result = smartc.compile(module, inputs, target="npu-8x8")
    texts = [remark.text for remark in result.report.remarks if remark.where == "model.onnx"]
    assert len(texts) == 1
    assert texts[0].startswith("is not written: ONNX cannot express it: No ONNX function found for ")
    result.save(tmp_path / "build")
    assert not (tmp_path / "build" / "model.onnx").exists()
    assert (tmp_path / "build" / "model.pt2").exists()
