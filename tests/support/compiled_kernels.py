"""Modules compiled by TVM, compared with what PyTorch computes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

import smartc
from smartc.lowering.to_tvm import to_tvm
from tests.support.oracle import relative_error

# float32 carries seven digits; sums of up to a few hundred products lose one or two.
TOLERANCE = 1e-5


class Branches(nn.Module):
    """Layers side by side, each on an input of its own."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        """Return what each layer computes."""
        return [layer(x) for layer, x in zip(self.layers, inputs, strict=True)]


def agree(module: nn.Module, inputs: list[Tensor], mcpu: str | None = None) -> None:
    """Assert that the compiled module computes what the module does, for the inputs' batch."""
    module.eval()
    several = isinstance(module, Branches)
    pair = [torch.cat([x[:1], x[:1]]) for x in inputs]
    compiled = to_tvm(smartc.trace(module, (pair if several else pair[0],)), batch=len(inputs[0]), mcpu=mcpu)
    with torch.no_grad():
        wanted = module(inputs if several else inputs[0])
    wanted = [wanted] if isinstance(wanted, Tensor) else wanted
    outputs = compiled.run(inputs)
    assert [tuple(output.shape) for output in outputs] == [tuple(output.shape) for output in wanted]
    errors = [relative_error(w, torch.from_numpy(o)) for o, w in zip(outputs, wanted, strict=True)]
    assert max(errors) < TOLERANCE
