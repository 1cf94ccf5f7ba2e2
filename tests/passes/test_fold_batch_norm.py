"""FoldBatchNorm: the same outputs with fewer calls, and a reason where it declines."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from smartc.frontend.capture import trace
from smartc.passes.fold_batch_norm import FoldBatchNorm
from smartc.proof.reference import errors, seeded_inputs
from tests.support.zoo.disturb import disturb

LAYERS = {
    "conv1d": (nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6), (2, 4, 9)),
    "conv2d_groups": (nn.Conv2d(4, 6, 3, groups=2, bias=False), nn.BatchNorm2d(6), (2, 4, 9, 9)),
    "conv3d": (nn.Conv3d(2, 6, 3), nn.BatchNorm3d(6, affine=False), (2, 2, 5, 5, 5)),
    "conv_transpose2d": (nn.ConvTranspose2d(4, 6, 3), nn.BatchNorm2d(6), (2, 4, 5, 5)),
    "conv_transpose2d_groups": (nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), (2, 4, 5, 5)),
    "linear": (nn.Linear(4, 6), nn.BatchNorm1d(6, affine=False), (2, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_folds_with_the_same_output(name: str) -> None:
    layer, norm, shape = LAYERS[name]
    network = nn.Sequential(layer, norm, nn.ReLU()).double().eval()
    disturb(network, 1)
    model = trace(network, torch.randn(shape, dtype=torch.float64))
    result = FoldBatchNorm().run(model)
    inputs = seeded_inputs(model, batch=3)
    assert result.modified
    assert [str(node.target) for node in result.model.calls()][1:] == ["aten.relu.default"]
    assert errors(model.run(inputs), result.model.run(inputs))[1] < 1e-13


def test_keeps_the_users_names() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4)).eval()
    folded = FoldBatchNorm().run(trace(network, torch.randn(2, 3, 4, 4))).model
    assert [str(node.target) for node in folded.graph.nodes if node.op == "get_attr"] == ["0.weight", "0.bias"]


class Shared(nn.Module):
    """One convolution read by two norms, called once and twice."""

    def __init__(self, twice: bool) -> None:
        super().__init__()
        self.conv, self.left, self.right = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.twice = twice

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.conv(x)
        second = self.conv(x + 1) if self.twice else first
        return self.left(first) + self.right(second)


def test_a_convolution_called_twice_gets_two_weights() -> None:
    network = Shared(twice=True).double().eval()
    disturb(network, 2)
    model = trace(network, torch.randn(2, 3, 4, 4, dtype=torch.float64))
    folded = FoldBatchNorm().run(model).model
    inputs = seeded_inputs(model, batch=2)
    assert not list(folded.calls(torch.ops.aten.batch_norm.default))
    assert errors(model.run(inputs), folded.run(inputs))[1] < 1e-13


def test_declines_with_a_reason() -> None:
    model = trace(Shared(twice=False).eval(), torch.randn(2, 3, 4, 4))
    assert [remark.text for remark in FoldBatchNorm().run(model).remarks] == ["conv2d has 2 readers"] * 2
    first = trace(nn.Sequential(nn.BatchNorm2d(3)).eval(), torch.randn(2, 3, 4, 4))
    assert [remark.text for remark in FoldBatchNorm().run(first).remarks] == [
        "its input input_1 is no convolution or linear layer"
    ]
