"""Tapped graphs: the same outputs, and the values of the nodes that were asked for, with their gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from smartc.frontend.capture import trace
from smartc.learning.objectives.intermediate_outputs import WithIntermediateOutputs
from tests.support.oracle import FLOAT32_TOLERANCE, TOLERANCE, relative_error
from tests.support.zoo import build


class TwoOutputs(nn.Module):
    """Return a dictionary and what is computed on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map (N, 4) to (N, 6) and (N, 3)."""
        hidden = self.first(x).relu()
        return {"hidden": hidden, "last": self.second(hidden).tanh()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dictionary_output", "two_inputs", "lstm"])
def test_outputs_are_those_of_the_model(name: str) -> None:
    module, inputs = build(name)
    model = trace(module, inputs)
    expected = tree_leaves(model.run(tuple(tree_leaves(inputs))))
    outputs, kept = WithIntermediateOutputs(model.graph_module, ())(*tree_leaves(inputs))
    assert kept == {}
    for left, right in zip(expected, tree_leaves(outputs), strict=True):
        assert relative_error(left, right) <= FLOAT32_TOLERANCE


def test_values_are_those_of_the_nodes() -> None:
    module = TwoOutputs().double()
    model = trace(module, torch.randn(2, 4, dtype=torch.float64))
    calls = {str(node.target): node.name for node in model.calls()}
    linears = [node.name for node in model.calls(torch.ops.aten.linear.default)]
    x = torch.randn(5, 4, dtype=torch.float64)
    wanted = [*linears, calls["aten.relu.default"]]
    _, kept = WithIntermediateOutputs(model.graph_module, [*wanted, "no_such_node"])(x)
    assert sorted(kept) == sorted(wanted)
    assert relative_error(module.first(x), kept[linears[0]]) <= TOLERANCE
    assert relative_error(module.first(x).relu(), kept[wanted[2]]) <= TOLERANCE
    assert relative_error(module.second(module.first(x).relu()), kept[linears[1]]) <= TOLERANCE


def test_gradients_flow_from_what_was_kept() -> None:
    model = trace(TwoOutputs(), torch.randn(2, 4))
    (first, _) = [node.name for node in model.calls(torch.ops.aten.linear.default)]
    watched = WithIntermediateOutputs(model.graph_module, [first])
    watched(torch.randn(3, 4))[1][first].square().sum().backward()
    gradients = {name: parameter.grad is not None for name, parameter in model.graph_module.named_parameters()}
    assert gradients == {"first.weight": True, "first.bias": True, "second.weight": False, "second.bias": False}


def test_one_run_keeps_nothing_of_the_one_before() -> None:
    model = trace(TwoOutputs(), torch.randn(2, 4))
    (first, _) = [node.name for node in model.calls(torch.ops.aten.linear.default)]
    watched = WithIntermediateOutputs(model.graph_module, [first])
    one, two = watched(torch.zeros(1, 4))[1], watched(torch.ones(2, 4))[1]
    assert (len(one[first]), len(two[first])) == (1, 2)
