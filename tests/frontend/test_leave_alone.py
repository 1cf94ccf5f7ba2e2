"""What the user wants left alone keeps its weights, to the bit, whatever else is removed, learned or refitted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import smartc
from smartc.analysis.find_channel_groups import find_channel_groups
from smartc.cli.main import main
from smartc.core.errors import UserError
from smartc.frontend.capture import from_program, trace
from smartc.frontend.leave_alone import leave_alone
from smartc.ir.traced_model import TracedModel
from smartc.passes.stages import run_stage
from tests.support.learning_networks import convolutions
from tests.support.oracle import assert_equals_masked, removed_share
from tests.support.small_networks import save_program, small
from tests.support.zoo import CASES

SOME_OF_THE_ZOO = sorted(name for name, case in CASES.items() if case.cuttable)[::12]
SHAPE = (4, 3, 8, 8)


def tensors(model: TracedModel) -> dict[str, Tensor]:
    """Return all parameters and buffers of a model."""
    return {**dict(model.graph_module.named_parameters()), **dict(model.graph_module.named_buffers())}


def changed(module: nn.Module, compiled: Any) -> set[str]:
    """Return the layers of a module that have other weights, or fewer, after a compile."""
    new = tensors(compiled.model)
    old = module.state_dict()
    return {name.rpartition(".")[0] for name in old if name in new and not torch.equal(old[name], new[name])}


@pytest.mark.parametrize("name", SOME_OF_THE_ZOO)
def test_no_channel_of_what_is_left_alone_goes(name: str) -> None:
    module, inputs = CASES[name].build()
    model = trace(module, inputs)
    layers = sorted({name.rpartition(".")[0] or name for name in tensors(model)})
    kept = leave_alone(model, keep=layers[::3])
    groups = find_channel_groups(kept)
    keep = np.random.default_rng(0).random(groups.count) < 0.5
    for group in groups.groups:
        keep[group.units[0]] = True
    smaller = tensors(run_stage("remove", kept, groups=groups, keep=keep).model)
    untouched = {name: tensor for name, tensor in tensors(kept).items() if name in kept.untouched}
    assert untouched
    assert all(smaller[name].equal(tensor) for name, tensor in untouched.items() if name in smaller)


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("granularity", ["channel", "4x4", "2:4"])
@pytest.mark.parametrize("options", [{"keep": "3"}, {"only": ["0", "1"]}, {"keep": ["[34]"], "only": ["?", "10"]}])
def test_every_granularity_obeys(options: dict[str, Any], granularity: str, dtype: torch.dtype, fixed: bool) -> None:
    module = convolutions().to(dtype)
    inputs = torch.randn(SHAPE, dtype=dtype)
    model: Any = torch.export.export(module, (inputs,)) if fixed else module
    model = from_program(model, "fixed") if fixed else model
    compiled = smartc.compile(
        model, None if fixed else inputs, target="npu-8x8", granularity=granularity, backends=(), **options
    )
    assert all(verification.passed for verification in compiled.report.verify)
    allowed = {"0", "1"} if "only" in options and "keep" not in options else {"0", "1", "4", "6", "10"}
    assert changed(module, compiled) <= allowed - set("34" if "keep" in options else "")
    if granularity == "channel" and not fixed:
        assert_equals_masked(module, (inputs,), compiled)


def test_the_rest_is_removed_and_the_report_says_why_this_is_not() -> None:
    module = small()
    compiled = smartc.compile(module, torch.randn(SHAPE), target="npu-8x8", keep="7", backends=())
    assert removed_share(compiled) > 0
    reasons = {layer.name: (layer.decision, layer.reason) for layer in compiled.report.layers}
    assert reasons["7"] == ("frozen", "kept: named by `keep`")
    assert compiled.report.remarks[-1].text == "left alone: 7 (named by `keep`)"
    only = smartc.compile(module, torch.randn(SHAPE), target="npu-8x8", only="0", backends=())
    goes = "goes with those of `1`, which is not named by `only`"
    assert goes in {layer.name: layer.reason for layer in only.report.layers}["0"]


@pytest.mark.parametrize("count", [24, 400])
@pytest.mark.parametrize("granularity", ["channel", "4x4"])
def test_learning_and_refitting_leave_it_alone(count: int, granularity: str) -> None:
    module, data = convolutions(), torch.randn(count, 3, 8, 8)
    settings = smartc.Settings(steps=3)
    compiled = smartc.compile(
        module,
        data[:4],
        target="npu-8x8",
        granularity=granularity,
        data=data,
        settings=settings,
        keep=["1", "10"],
        backends=(),
    )
    assert changed(module, compiled) & {"1", "10"} == set()
    assert changed(module, compiled)


def test_a_loop_of_the_users_own_has_no_masks_on_it() -> None:
    module, data = convolutions(), torch.randn(8, 3, 8, 8)
    search = smartc.prepare(module, data, target="npu-8x8", granularity="4x4", steps=2, keep=["1", "3"])
    optimizer = torch.optim.SGD(search.model.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        loss = search.model(data).square().mean()
        loss.backward()
        optimizer.step()
        search.step(loss)
    learned = tensors(search.finish(backends=()).model)
    assert learned["3.weight"].count_nonzero() == learned["3.weight"].numel()
    assert learned["6.weight"].count_nonzero() < learned["6.weight"].numel()
    assert learned["1.running_mean"].equal(module.state_dict()["1.running_mean"])


class Shared(nn.Module):
    """Use one weight under two names, and another by a call of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.table = nn.Parameter(torch.randn(16, 8))
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 8) to (N, 4)."""
        return self.head(torch.nn.functional.linear(self.second(self.first(x)).relu(), self.table))


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("second", {"first.weight", "second.weight", "second.bias"}),
        ("*.bias", {"first.bias", "second.bias", "head.bias"}),
        ("head.*", {"head.weight", "head.bias"}),
        ("table", {"table"}),
        ("linear_2", {"table"}),
    ],
)
def test_a_pattern_names_a_tensor_under_all_its_names(pattern: str, found: set[str]) -> None:
    assert set(leave_alone(trace(Shared(), torch.zeros(2, 8)), keep=pattern).untouched) == found


def test_nothing_asked_for_is_nothing_done() -> None:
    model = trace(small(), torch.zeros(SHAPE))
    assert leave_alone(model) is model


@pytest.mark.parametrize("option", ["keep", "only"])
def test_a_pattern_that_matches_nothing_is_refused(option: str) -> None:
    with pytest.raises(UserError) as caught:
        smartc.compile(Shared(), torch.zeros(2, 8), target="npu-8x8", **{option: ["frist.*"]})
    message = "Shared has no layer or parameter of that name. The nearest are first."
    assert str(caught.value) == f"{option}='frist.*': {message}"


def test_the_commands_take_it(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    file = str(save_program(tmp_path / "model.pt2"))
    assert main(["explain", file, "--keep", "7.*"]) == 0
    assert "stays, because it is named by `keep`: 7.weight axis 0, 7.weight axis 1" in capsys.readouterr().out
    compile_it = ["compile", file, "--target=npu-8x8", "-qo", "build"]
    assert main([*compile_it, "--keep", "7", "--only", "[0-6]", "--backend", "pt2"]) == 0
    assert main([*compile_it, "--keep", "tail"]) == 2
    assert main(["explain", "build", "--only", "7"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[0].startswith("smartc: --keep tail: model.pt2 has no layer or parameter of that name.")
    assert errors[1] == "smartc: --only 7: a build is decided already. Explain the model file."
