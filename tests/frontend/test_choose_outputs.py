"""Outputs that nobody wants are not compiled: what they alone need is gone, and the rest of the network is free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import smartc
from smartc.cli.main import main
from smartc.core.errors import UserError
from smartc.frontend.capture import from_program, trace
from smartc.frontend.choose_outputs import choose_outputs
from tests.support.oracle import TOLERANCE, masked_original, relative_error

SHAPE = (2, 3, 8, 8)


class Detector(nn.Module):
    """Scores, and beside them the maps that they are made of and an auxiliary head's."""

    def __init__(self, form: str = "tuple") -> None:
        super().__init__()
        self.form = form
        self.stem, self.deep = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 24, 3, padding=1)
        self.head, self.extra = nn.Conv2d(24, 4, 1), nn.Conv2d(16, 32, 3)
        self.out = nn.Conv2d(32, 2, 1)

    def forward(self, x: Tensor) -> Any:
        """Map (N, 3, H, W) to scores and maps."""
        low = self.stem(x).relu()
        high = self.deep(low).relu()
        scores, extra = self.head(high), self.out(self.extra(low).relu())
        if self.form == "dict":
            return {"scores": scores, "maps": [low, high], "extra": extra}
        if self.form == "nested":
            return (scores, {"low": low, "high": high}), extra
        return scores, [low, high], extra


@pytest.mark.parametrize(
    ("form", "wanted", "left"),
    [
        ("tuple", 0, ["output_0"]),
        ("tuple", ["output_0", 2], ["output_0", "output_2"]),
        ("tuple", "output_1", ["output_1_0", "output_1_1"]),
        ("tuple", ["output_1_1"], ["output_1_1"]),
        ("dict", "scores", ["scores"]),
        ("dict", ["0", "extra"], ["scores", "extra"]),
        ("nested", "output_0_0", ["output_0_0"]),
        ("nested", "output_0_1_high", ["output_0_1_high"]),
    ],
)
def test_what_is_left_is_what_it_was_and_the_rest_is_none(form: str, wanted: Any, left: list[str]) -> None:
    module, x = Detector(form).eval(), torch.randn(SHAPE)
    model = trace(module, x)
    fewer = choose_outputs(model, wanted)
    assert list(fewer.output_names) == left
    whole, found = model.run((x,)), fewer.run((x,))
    assert type(found) is type(whole)
    of_whole = dict(zip(model.output_names, tensors(whole), strict=True))
    assert all(torch.equal(of_whole[name], one) for name, one in zip(left, tensors(found), strict=True))


def tensors(value: Any) -> list[Tensor]:
    """Return the tensors of a structure."""
    return [leaf for leaf in torch.utils._pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("fixed", [True, False])
def test_channels_of_maps_that_nobody_reads_can_go(dtype: torch.dtype, fixed: bool) -> None:
    module, x = Detector().to(dtype).eval(), torch.randn(SHAPE, dtype=dtype)
    model: Any = smartc.trace(module, (x,))
    if fixed:
        model = from_program(torch.export.export(module, (x,)), "Detector")
    whole, fewer = (
        smartc.compile(model, target="npu-8x8", sparsity=0.5, outputs=outputs, backends=()) for outputs in (None, 0)
    )
    assert whole.report.summary.prunable_channels == 32
    assert fewer.report.summary.prunable_channels == 40
    assert {layer.name for layer in fewer.report.layers} == {"stem", "deep", "head"}
    text = "left out of the outputs, with all that they alone need: output_1_0, output_1_1, output_2"
    assert text in [remark.text for remark in fewer.report.remarks]
    scores, *others = fewer(x)
    assert others == [None, None]
    expected = masked_original(module, fewer.plan.to_dict())(x.double())[0]
    assert relative_error(expected, scores.double()) < (TOLERANCE if dtype == torch.float64 else 1e-5)


def test_a_build_has_the_outputs_that_are_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(Detector("dict").eval(), (torch.zeros(SHAPE),)), file)
    build = str(tmp_path / "build")
    command = ["compile", str(file), "--target=npu-8x8", "--outputs", "0", "--outputs=extra", "-qo", build]
    assert main([*command, "--output-names=a,b"]) == 0
    loaded = smartc.load(build)
    assert loaded.model.output_names == ("a", "b")
    assert loaded(torch.zeros(SHAPE))["maps"] is None
    assert main(["verify", build]) == 0
    assert main(["explain", str(file), "--outputs", "scores"]) == 0
    assert "left out of the outputs" in capsys.readouterr().out


def test_an_output_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        smartc.compile(Detector().eval(), torch.zeros(SHAPE), target="npu-8x8", outputs="boxes")
    has = "the model has no such output; it has output_0, output_1_0, output_1_1, output_2"
    assert str(caught.value) == f"outputs=('boxes',): {has}. Name one of these, or give its position, counted from 0."


class Cache:
    """What a language model keeps between its steps; no structure that torch knows."""

    def __init__(self, keys: Tensor) -> None:
        self.keys = keys


class Generating(nn.Module):
    """Return scores with a cache, or a cache alone."""

    def __init__(self, alone: bool) -> None:
        super().__init__()
        self.alone = alone
        self.stem, self.head = nn.Linear(8, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Any:
        """Map (N, 8) to (N, 4)."""
        hidden = self.stem(x).relu()
        return Cache(hidden) if self.alone else {"scores": self.head(hidden), "cache": Cache(hidden)}


def test_a_cache_is_left_out_and_said() -> None:
    module, x = Generating(alone=False).eval(), torch.randn(3, 8)
    compiled = smartc.compile(module, x, target="npu-8x8", backends=("pt2", "onnx"))
    assert compiled.report.summary.removed_channels == 16
    text = (
        "output cache is left out: torch.export does not know the type Cache; a model with use_cache=False makes none"
    )
    assert text in [remark.text for remark in compiled.report.remarks]
    assert isinstance(module(x)["cache"], Cache)
    assert compiled(x)["cache"] is None


def test_a_model_that_returns_nothing_else_is_refused() -> None:
    with pytest.raises(UserError, match=r"torch\.export refuses the model"):
        trace(Generating(alone=True).eval(), torch.randn(3, 8))
