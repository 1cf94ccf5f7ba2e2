"""LinearOfTranspose: products with a transposed parameter are linear layers, with the same bits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import smartc
from smartc.ir.traced_model import TracedModel, operator_name


class Network(nn.Module):
    """Multiply by two parameters with a function between."""

    def __init__(self, product: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 32), nn.Linear(32, 8)
        self.product = product

    def forward(self, x: Tensor) -> Tensor:
        """Compute both products."""
        x = torch.relu(self.product(x, self.first.weight, self.first.bias))
        return self.product(x, self.second.weight, self.second.bias)


LAYERS: dict[str, tuple[Callable[[Tensor, Tensor, Tensor], Tensor], tuple[int, ...]]] = {
    "matmul and T": (lambda x, weight, bias: x @ weight.T, (2, 5, 12)),
    "matmul and t": (lambda x, weight, bias: x @ weight.t(), (2, 12)),
    "mm and transpose": (lambda x, weight, bias: torch.mm(x, weight.transpose(-1, 0)), (2, 12)),
    "matmul and permute": (lambda x, weight, bias: x @ weight.permute(1, 0) + bias, (2, 3, 4, 12)),
    "addmm": (lambda x, weight, bias: torch.addmm(bias, x, weight.t()), (2, 12)),
}
OTHERS: dict[str, tuple[Callable[[Tensor, Tensor, Tensor], Tensor], tuple[int, ...]]] = {
    "a scaled sum": (lambda x, weight, bias: torch.addmm(bias, x, weight.t(), alpha=0.5), (2, 12)),
    "a bias for each sample": (lambda x, weight, bias: torch.addmm(bias.expand(2, -1), x, weight.t()), (2, 12)),
    "an activation": (lambda x, weight, bias: x @ (weight * x.mean()).t(), (2, 12)),
}


def traced(network: Network, inputs: Tensor) -> tuple[TracedModel, int]:
    """Return the captured network, checked to compute the same bits, and the number of its linear layers."""
    model = smartc.trace(network.eval(), inputs)
    with torch.no_grad():
        assert torch.equal(model.graph_module(inputs), network(inputs))
    return model, sum(operator_name(node.target) == "linear" for node in model.calls())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LAYERS)
def test_is_a_layer_with_the_users_weight(name: str, dtype: torch.dtype) -> None:
    product, shape = LAYERS[name]
    torch.manual_seed(0)
    network, inputs = Network(product).to(dtype), torch.randn(shape, dtype=dtype)
    model, layers = traced(network, inputs)
    assert layers == 2
    compiled = smartc.compile(model, target="npu-8x8", backends=())
    assert all(proof.passed for proof in compiled.report.verify)
    assert compiled.module.first.weight.shape == (16, 12)
    assert [layer.decision for layer in compiled.report.layers if layer.op == "linear"] == ["channel", "channel"]


@pytest.mark.parametrize("name", OTHERS)
def test_leaves_other_products_alone(name: str) -> None:
    product, shape = OTHERS[name]
    assert traced(Network(product), torch.randn(shape))[1] == 0
