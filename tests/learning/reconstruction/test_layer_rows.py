"""LayerRows: rows of inputs times rows of weights are the layer's outputs, for every kind of layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smartc.frontend.capture import trace
from smartc.ir.traced_model import stored_name
from smartc.learning.reconstruction.layer_rows import LayerRows, is_layer
from smartc.learning.reconstruction.sample_rows import HELD_OUT, sampled_rows

# float64 sums in another order.
TOLERANCE = 1e-12


class Product(nn.Module):
    """Multiply by a stored matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 6))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, 4) to (N, T, 6)."""
        return x @ self.weight


def transposed(rank: int, **options: Any) -> nn.Module:
    """Return a transposed convolution from 4 to 6 channels."""
    kinds = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
    return kinds[rank](4, 6, **{"kernel_size": 3, "bias": False, **options})


LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear": (nn.Linear(4, 6, bias=False), (4,)),
    "linear_on_tokens": (nn.Linear(4, 6, bias=False), (5, 4)),
    "linear_on_space": (nn.Linear(4, 6, bias=False), (2, 3, 4)),
    "product": (Product(), (5, 4)),
    "conv1d_dilated": (nn.Conv1d(4, 6, 3, dilation=2, bias=False), (4, 9)),
    "conv2d": (nn.Conv2d(4, 6, 3, padding=1, bias=False), (4, 5, 7)),
    "conv2d_uneven": (nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(0, 1), dilation=(1, 2), bias=False), (4, 6, 5)),
    "conv2d_same": (nn.Conv2d(4, 6, (3, 4), padding="same", bias=False), (4, 5, 7)),
    "conv2d_grouped": (nn.Conv2d(4, 6, 3, groups=2, stride=2, bias=False), (4, 7, 7)),
    "conv2d_depthwise": (nn.Conv2d(4, 8, 3, groups=4, padding=1, bias=False), (4, 5, 5)),
    "conv3d": (nn.Conv3d(4, 6, (1, 2, 3), padding=(0, 1, 1), bias=False), (4, 3, 4, 4)),
    "transposed1d": (transposed(1, stride=2, padding=1, output_padding=1), (4, 5)),
    "transposed2d": (transposed(2, stride=(2, 3), padding=(1, 0), dilation=(2, 1)), (4, 3, 4)),
    "transposed2d_grouped": (transposed(2, stride=2, groups=2, padding=1), (4, 3, 3)),
    "transposed3d": (transposed(3, stride=2), (4, 2, 2, 2)),
}


def viewed(name: str) -> tuple[LayerRows, Tensor, Tensor, Tensor]:
    """Return the view of a layer, its weight, a batch and its outputs."""
    module, shape = LAYERS[name]
    module = module.double()
    x = torch.randn(HELD_OUT, *shape, dtype=torch.float64)
    (node,) = (node for node in trace(module, x).calls() if is_layer(node))
    assert stored_name(node.args[1]) == "weight"
    with torch.no_grad():
        return LayerRows.of(node, module.weight), module.weight.detach(), x, module(x)


@pytest.mark.parametrize("name", LAYERS)
def test_rows_times_rows_are_the_outputs(name: str) -> None:
    view, weight, x, y = viewed(name)
    rows = view.weight_rows(weight)
    parts = list(sampled_rows(view, [x[:1], x[1:]], [y[:1], y[1:]], [1, HELD_OUT - 1], limit=10**6))
    assert sum(part.outputs.numel() for part in parts) == y.numel()
    for part in parts:
        given = part.inputs @ rows.transpose(1, 2)
        assert torch.allclose(given, part.outputs, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("name", LAYERS)
def test_a_weight_is_its_rows_again(name: str) -> None:
    view, weight, _, _ = viewed(name)
    assert torch.equal(view.weight_of(view.weight_rows(weight), weight.shape), weight)


def test_some_inputs_are_held_out_whole() -> None:
    view, _, x, y = viewed("conv2d")
    x[HELD_OUT - 1] = 100
    for part in sampled_rows(view, [x], [y], [len(x)], limit=12):
        assert bool((part.inputs.max() == 100) == part.held_out)
        assert part.inputs.shape[1] == 3 * (1 if part.held_out else HELD_OUT - 1)


def test_positions_are_held_out_where_inputs_are_few() -> None:
    view, _, x, y = viewed("conv2d")
    shares = {part.held_out: part.inputs.shape[1] for part in sampled_rows(view, [x[:1]], [y[:1]], [1], limit=20)}
    assert shares == {False: 15, True: 5}
