"""The error of norms that lost channels is measured, stated everywhere, and made less by data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import smartc
from smartc.artifact.verify_build import verify_build
from smartc.cli.main import main
from smartc.core.errors import UserError
from smartc.decision.plan import Plan
from smartc.reporting.html_page import render_html
from smartc.results.report import Report
from tests.support.oracle import masked_original
from tests.support.residual_networks import RESIDUAL, residual_network

STAGES = ["masked, norms over what stays == removed (float64)", "masked, norms over what stays == .pt2"]


def relative(expected: Tensor, actual: Tensor) -> float:
    """Return the root mean square of an error, relative to what is expected."""
    return float((expected - actual).square().sum().sqrt() / expected.square().sum().sqrt())


def compiled(name: str, approximate: bool = True, **options: object) -> smartc.Compiled:
    """Return a network of the table at half of its channels."""
    module, x = residual_network(name, torch.float32)
    given = {"target": "npu-8x8", "sparsity": 0.5, "backends": ("pt2",), "approximate": approximate, **options}
    return smartc.compile(module, x, **given)


@pytest.mark.parametrize("name", RESIDUAL)
def test_the_error_is_stated(name: str) -> None:
    report = compiled(name).report
    assert report.approximation is not None
    assert [stage.stage for stage in report.verify] == STAGES
    assert report.verify[0].max_rel_error < 1e-10
    norms = report.approximation.norms
    assert len(norms) == RESIDUAL[name][1]
    assert all(0 < norm.error < 2 and 0 < norm.kept < norm.channels for norm in norms)
    assert report.approximation.error > 0
    reasons = {layer.name: layer.reason for layer in report.layers}
    assert all(reasons[norm.name].startswith("approximate: normalises by ") for norm in norms)


def test_the_error_is_that_of_the_masked_original() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.Linear(16, 5)).eval()
    x = torch.randn(64, 6)
    options = {"target": "npu-8x8", "sparsity": 0.5, "backends": ("pt2",), "learner": "magnitude"}
    done = smartc.compile(module, x[:2], approximate=True, evaluate=(x, torch.zeros(64, dtype=torch.long)), **options)
    masked = masked_original(module, done.plan.to_dict())
    kept = done.plan.to_dict()["tensors"]["1.weight"]["axes"][0]["kept"]
    with torch.no_grad():
        expected, outputs = masked[1](masked[0](x.double())), done.module.double()(x.double())
        part = masked[0](x.double())[:, kept]
        actual = torch.nn.functional.layer_norm(part, (len(kept),), masked[1].weight[kept], masked[1].bias[kept])
    found = done.report.approximation
    assert found is not None
    assert (found.inputs, [norm.name for norm in found.norms]) == (64, ["1"])
    assert found.norms[0].error == pytest.approx(relative(expected[:, kept], actual), rel=1e-4)
    assert found.error == pytest.approx(relative(masked(x.double()), outputs), rel=1e-4)


def test_without_being_asked_nothing_is_approximate() -> None:
    done = compiled("layer norm", approximate=False)
    assert done.report.approximation is None
    assert "norms" not in done.plan.to_dict()
    assert done.report.verify[0].stage == "masked == removed (float64)"
    assert not any("approximate" in layer.reason for layer in done.report.layers)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["layer norm", "RMS norm", "ConvNeXt V2"])
def test_data_make_the_error_less(name: str) -> None:
    torch.manual_seed(1)
    data = torch.randn(64, 3, 16, 16)
    before = compiled(name, learner="magnitude", evaluate=(data, torch.zeros(64, dtype=torch.long))).report
    done = compiled(name, learner="magnitude", data=data, settings=smartc.Settings(steps=0)).report
    assert before.approximation is not None
    assert done.approximation is not None
    assert done.approximation.error < before.approximation.error / 2
    assert done.verify[0].stage == "masks in the graph == masked (float64)"
    assert [stage.stage for stage in done.verify[1:]] == STAGES
    assert done.agreement.cosine > before.agreement.cosine


def test_a_loop_of_ones_own_states_the_error() -> None:
    module, x = residual_network("layer norm", torch.float32)
    search = smartc.prepare(module, x, target="npu-8x8", sparsity=0.5, steps=2, learner="magnitude", approximate=True)
    for _ in range(2):
        search.step()
    report = search.finish(backends=("pt2",)).report
    assert [stage.stage for stage in report.verify] == ["masks in the graph == masked (float64)", *STAGES]
    assert report.approximation is not None
    assert len(report.approximation.norms) == 5


def test_a_build_says_so_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module, x = residual_network("layer norm", torch.float32)
    torch.export.save(torch.export.export(module, (x,)), tmp_path / "model.pt2")
    options = ["--target", "npu-8x8", "-o", str(tmp_path / "build"), "--approximate"]
    assert main(["compile", str(tmp_path / "model.pt2"), *options]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    report = Report.load(tmp_path / "build" / "report.json")
    assert report.approximation is not None
    text = "5 norms lost channels; relative error "
    assert f"WARNING approximate: {text}" in printed
    assert text in render_html(report)
    assert json.loads((tmp_path / "build" / "report.json").read_text())["approximation"]["norms"][0]["name"]
    assert len(Plan.load(tmp_path / "build" / "plan.json").norms) == 5
    assert all(stage.passed for stage in verify_build(tmp_path / "build").stages.values())
    assert main(["verify", str(tmp_path / "build")]) == 0


def test_blocks_have_nothing_to_approximate() -> None:
    with pytest.raises(UserError) as caught:
        compiled("layer norm", granularity="8x8")
    assert str(caught.value) == (
        "approximate=...: 8x8 takes no channel of a norm, so there is nothing to approximate. "
        "Leave it out, or remove channels."
    )


def test_a_class_of_ones_own_gets_the_channels_of_a_group_norm() -> None:
    module, _ = residual_network("ConvNeXt V2", torch.float32)
    done = compiled("ConvNeXt V2")
    smaller = done.apply(module)
    assert smaller.groups.num_groups == 4
    assert smaller.groups.num_channels < module.groups.num_channels
