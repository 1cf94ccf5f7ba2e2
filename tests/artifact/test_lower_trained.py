"""What is saved is what the module computes: files are made and proved again where it was trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import smartc
from smartc.artifact.lower_trained import CHANGED
from smartc.cli.main import main
from smartc.core.errors import UserError
from tests.support.small_networks import SHAPE, small


@pytest.fixture
def inputs() -> torch.Tensor:
    """Return some inputs of the small classifier."""
    return torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(1))


def _compiled(**options: object) -> smartc.Compiled:
    """Return the small classifier compiled."""
    return smartc.compile(small(), torch.zeros(2, *SHAPE), target="npu-8x8", **options)  # type: ignore[arg-type]


def _train(module: nn.Module, inputs: torch.Tensor, steps: int = 3) -> None:
    """Train a module on noise."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module.train()
    for _ in range(steps):
        optimizer.zero_grad()
        module(inputs).square().mean().backward()
        optimizer.step()
    module.eval()


@pytest.mark.slow
@pytest.mark.parametrize("backends", [("onnx",), ()])
def test_every_file_is_what_the_module_became(
    backends: tuple[str, ...], inputs: torch.Tensor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compiled = _compiled(backends=backends)
    before = compiled(inputs).detach()
    _train(compiled.module, inputs)
    after = compiled.module(inputs).detach()
    assert not torch.allclose(before, after, atol=1e-2)
    compiled.save(tmp_path / "build")
    program = torch.export.load(tmp_path / "build" / "model.pt2").module()
    assert torch.allclose(program(inputs), after, atol=1e-5)
    if backends:
        session = onnxruntime.InferenceSession(str(tmp_path / "build" / "model.onnx"))
        (output,) = session.run(None, {"input": inputs.numpy()})
        assert np.allclose(output, after.numpy(), atol=1e-4)
    loaded = smartc.load(tmp_path / "build")
    stages = ["module == .pt2", "module == ONNX Runtime"][: 1 + len(backends)]
    assert [proof.stage for proof in loaded.report.verify] == stages
    warnings = [remark.text for remark in loaded.report.remarks if remark.level == "warning"]
    assert CHANGED in warnings
    assert main(["verify", str(tmp_path / "build")]) == 0
    capsys.readouterr()


def test_the_report_compares_the_trained_module_with_the_original(inputs: torch.Tensor, tmp_path: Path) -> None:
    compiled = _compiled(backends=("pt2",), evaluate=lambda model: float(model(inputs).sum()))
    _train(compiled.module, inputs)
    compiled.save(tmp_path / "build")
    evaluation = smartc.load(tmp_path / "build").report.evaluation
    assert evaluation is not None
    assert evaluation.compiled == pytest.approx(float(compiled.module(inputs).detach().sum()), rel=1e-4)


@pytest.mark.slow
def test_a_loaded_build_is_trained_on(inputs: torch.Tensor, tmp_path: Path) -> None:
    _compiled().save(tmp_path / "build")
    loaded = smartc.load(tmp_path / "build")
    _train(loaded.module, inputs)
    loaded.save(tmp_path / "again")
    again = smartc.load(tmp_path / "again")
    assert torch.allclose(again(inputs), loaded.module(inputs), atol=1e-5)
    assert {path.name for path in (tmp_path / "again").iterdir()} == {
        path.name for path in (tmp_path / "build").iterdir()
    }
    assert again.report.agreement.source.endswith(", before its weights were changed")


def test_training_switches_batch_norms_and_dropout(inputs: torch.Tensor) -> None:
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(16, 8, 3))
    module = smartc.compile(net.eval(), torch.zeros(2, *SHAPE), target="npu-8x8", backends=()).module
    assert torch.equal(module(inputs), module(inputs))
    statistics = module.get_buffer("1.running_mean").clone()
    module.train()
    assert not torch.equal(module(inputs), module(inputs))
    assert not torch.equal(module.get_buffer("1.running_mean"), statistics)
    module.eval()
    assert torch.equal(module(inputs), module(inputs))


def test_training_the_module_leaves_the_users_model_alone(inputs: torch.Tensor) -> None:
    net = small()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    _train(smartc.compile(net, torch.zeros(2, *SHAPE), target="npu-8x8", backends=()).module, inputs)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_blocks_that_training_brought_back_are_refused(inputs: torch.Tensor, tmp_path: Path) -> None:
    compiled = _compiled(granularity="8x8", sparsity=0.5, backends=("pt2",))
    name = next(iter(compiled.plan.masks))
    _train(compiled.module, inputs)
    with pytest.raises(UserError) as caught:
        compiled.save(tmp_path / "build")
    assert str(caught.value) == (
        f"{name}: weights of it that the plan removed are no longer zero. "
        "Set them to zero after each step of the optimizer, or train with smartc.prepare."
    )
    assert not (tmp_path / "build").exists()


def test_blocks_that_stayed_zero_are_packed_again(inputs: torch.Tensor, tmp_path: Path) -> None:
    compiled = _compiled(granularity="8x8", sparsity=0.5, backends=("pt2",))
    zeros = {name: compiled.module.get_parameter(name) == 0 for name in compiled.plan.masks}
    _train(compiled.module, inputs, steps=1)
    with torch.no_grad():
        for name, gone in zeros.items():
            compiled.module.get_parameter(name)[gone] = 0
    compiled.save(tmp_path / "build")
    stages = [proof.stage for proof in smartc.load(tmp_path / "build").report.verify]
    assert stages == ["module == .pt2", "module == packed weights"]


def test_a_module_of_another_type_is_refused(tmp_path: Path) -> None:
    compiled = _compiled(backends=("pt2",))
    compiled.module.half()
    with pytest.raises(UserError) as caught:
        compiled.save(tmp_path / "build")
    assert str(caught.value) == (
        "0.weight: it is float16 8x3x3x3, and float32 8x3x3x3 was compiled. "
        "Give it back the shape and type that it had, or compile the changed model."
    )
