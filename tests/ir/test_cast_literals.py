"""A model in another type: types that its calls spell out, or leave to the default, are its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import smartc
from smartc.frontend.capture import trace
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


def test_other_types_stay() -> None:
    class Single(nn.Module):
        """A sum in single precision in a model of double precision."""

        def forward(self, x: Tensor) -> Tensor:
            """Map (N, 4) to (N,)."""
            return x.to(torch.float32).sum(1)

    model = trace(Single().eval(), torch.randn(2, 4, dtype=torch.float64))
    assert model.to(torch.float64).run((torch.randn(2, 4, dtype=torch.float64),)).dtype == torch.float32


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
