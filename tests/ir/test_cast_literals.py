"""A model in another type: types that its calls spell out, or leave to the default, are its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import smartc
from smartc.frontend.capture import trace
from smartc.ir.cast_literals import coarsest_type
from smartc.proof.reference import TOLERANCE
from smartc.results.figures import ReportRemark
from tests.support.oracle import FLOAT32_TOLERANCE, relative_error


class Factories(nn.Module):
    """Tensors that the forward makes: in the type of an activation, by default, and as a convolution's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, 6, 6) to (N, 8, 6, 6)."""
        hidden = self.first(x) + torch.ones(32, 1, 1, dtype=x.dtype)
        blur = torch.full((32, 1, 3, 3), 1 / 9).to(x.dtype)
        counted = torch.arange(6).to(hidden.dtype)
        return self.second(nn.functional.conv2d(hidden, blur, padding=1, groups=32) + counted)


CASTS: dict[str, Callable[[nn.Module], nn.Module]] = {"float32": nn.Module.float, "float64": nn.Module.double}


@pytest.mark.parametrize("kind", CASTS)
def test_factories_follow_the_model(kind: str) -> None:
    torch.manual_seed(0)
    module, x = CASTS[kind](Factories().eval()), torch.randn(2, 3, 6, 6, dtype=getattr(torch, kind))
    model = trace(module, x)
    for dtype in (torch.float64, torch.float32):
        found = model.to(dtype).run((x.to(dtype),))
        assert found.dtype == dtype
        assert relative_error(module(x), found) <= FLOAT32_TOLERANCE
    compiled = smartc.compile(module, x, target="npu-8x8", sparsity=0.5, backends=("pt2", "onnx"))
    assert all(proof.passed for proof in compiled.report.verify)
    assert compiled(x).dtype == x.dtype


class Other(nn.Module):
    """A sum in a type of its own."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 4) to (N,)."""
        return x.to(self.dtype).sum(1)


def test_longer_types_stay_and_shorter_ones_follow() -> None:
    x = torch.randn(2, 4)
    longer, shorter = (trace(Other(dtype), x) for dtype in (torch.float64, torch.bfloat16))
    assert longer.to(torch.float32).run((x,)).dtype == torch.float64
    assert shorter.to(torch.float32).run((x,)).dtype == torch.float32
    assert shorter.to(torch.float64).run((x.double(),)).dtype == torch.float64
    assert [coarsest_type(model.graph, model.dtype) for model in (longer, shorter)] == [torch.float32, torch.bfloat16]


class Mixed(nn.Module):
    """A network whose middle computes in a shorter type, by parameters of that type or by casts."""

    def __init__(self, dtype: torch.dtype, stored: bool) -> None:
        super().__init__()
        self.dtype, self.stored = dtype, stored
        self.stem, self.head = nn.Conv2d(3, 32, 3, padding=1), nn.Linear(32, 4)
        self.middle = nn.Conv2d(32, 32, 3, padding=1).to(dtype if stored else torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, 8, 8) to (N, 4)."""
        hidden = self.stem(x).to(self.dtype).relu()
        if self.stored:
            hidden = self.middle(hidden)
        else:
            weight, bias = self.middle.weight.to(self.dtype), self.middle.bias.to(self.dtype)  # type: ignore[union-attr]
            hidden = nn.functional.conv2d(hidden, weight, bias, padding=1)
        return self.head(hidden.relu().mean((2, 3)).float())


@pytest.mark.parametrize("granularity", ["channel", "8x8"])
@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_network_that_computes_in_two_types_is_proved(dtype: torch.dtype, stored: bool, granularity: str) -> None:
    torch.manual_seed(0)
    module, x = Mixed(dtype, stored).eval(), torch.randn(2, 3, 8, 8)
    backends = ("pt2", "onnx")
    compiled = smartc.compile(module, x, target="npu-8x8", granularity=granularity, backends=backends)
    tolerances = {proof.stage: proof.tolerance for proof in compiled.report.verify}
    assert tolerances["masked == removed (float64)"] == 1e-10
    assert tolerances["masked == .pt2"] == max(TOLERANCE[dtype], 1e-4)
    # ONNX Runtime has no convolution in float64.
    assert tolerances.get("masked == ONNX Runtime") == (None if dtype == torch.float64 else 1e-4)
    told = f"computes in float32 what the model computes in {str(dtype).removeprefix('torch.')}"
    assert (ReportRemark("model.onnx", told) in compiled.report.remarks) == (dtype != torch.float64)


def test_types_that_are_spelled_out_beside_masks_follow_too() -> None:
    class Angles(nn.Module):
        """Channels turned by angles that are computed in single precision, whatever comes in."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(8, 32), nn.Linear(32, 8)

        def forward(self, x: Tensor) -> Tensor:
            """Map (N, 8) to the same shape."""
            return self.second(self.first(x) * torch.cos(x.to(torch.float32).sum(-1, keepdim=True)))

    torch.manual_seed(0)
    x, settings = torch.randn(8, 8), smartc.Settings(steps=3)
    options = {"target": "npu-8x8", "granularity": "channel", "data": x, "settings": settings, "backends": ()}
    compiled = smartc.compile(Angles(), x, **options)  # type: ignore[arg-type]
    assert "masks in the graph == masked (float64)" in compiled.report.to_dict()["verify"][0].values()
