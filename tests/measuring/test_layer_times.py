"""Which layer a kernel's time belongs to, and how times by the clock become times of the processor."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import Tensor, nn

import smartc
from smartc.analysis.analyse import analysed
from smartc.lowering.time_onnx import kernel_nodes, without_pauses
from smartc.measuring.layer_times import LayerNames
from smartc.measuring.measurement import Dense, measure


class Network(nn.Module):
    """A block whose activation is used twice, and a product of the module's own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.relu, self.pool, self.head = nn.ReLU(), nn.MaxPool2d(2), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = self.relu(self.first(x))
        x = self.pool(self.relu(self.second(x) + x))
        return self.head(x.mean((2, 3)) * x.amax((2, 3)))


@pytest.fixture(scope="module")
def names() -> LayerNames:
    """Return the names of the network's rows."""
    return LayerNames(analysed(smartc.trace(Network(), torch.randn(2, 3, 8, 8))))


def test_nodes_of_onnx_count_for_their_layers(names: LayerNames) -> None:
    spent = {"first/Conv": [1.0, 2.0], "relu/Relu#2": [3.0, 4.0], "pool/MaxPool": [5.0, 6.0], "": [7.0, 8.0]}
    found, rest = names.times(spent, by_node=True)
    assert found == {"first": [1.0, 2.0], "second": [3.0, 4.0], "pool": [5.0, 6.0]}
    assert rest == [7.0, 8.0]


def test_what_a_module_computes_itself_goes_by_the_operator(names: LayerNames) -> None:
    found, rest = names.times({"Mul": [1.0], "ReduceMean": [2.0], "head/Gemm": [4.0]}, by_node=True)
    assert found == {"mul": [1.0], "mean": [2.0], "head": [4.0]}
    assert rest == [0.0]


def test_layers_of_tvm_have_the_users_names(names: LayerNames) -> None:
    found, rest = names.times({"second": [1.0], "mul_7": [2.0], "vm.builtin.reshape": [0.5]}, by_node=False)
    assert found == {"second": [1.0], "mul": [2.0]}
    assert rest == [0.5]


def graph(*nodes: tuple[str, str, list[str], str]) -> onnx.GraphProto:
    """Return a graph of nodes, each an operator, a name, inputs and an output."""
    return helper.make_graph([helper.make_node(op, ins, [out], name=name) for op, name, ins, out in nodes], "g", [], [])


def test_a_fused_kernel_bears_the_name_of_what_has_a_weight() -> None:
    model = graph(
        ("Conv", "a/Conv", ["x", "w"], "conv"),
        ("Conv", "b/Conv", ["x", "v"], "other"),
        ("Add", "Add", ["conv", "other"], "sum"),
        ("Relu", "r/Relu", ["sum"], "relu"),
        ("MaxPool", "p/MaxPool", ["relu"], "pool"),
    )
    optimised = graph(("FusedConv", "fused", ["x", "v"], "other"), ("ReorderOutput", "ReorderOutput", ["t"], "relu"))
    kernels = {"relu_nchwc", "fused", "p/MaxPool", "ReorderOutput"}
    assert kernel_nodes(model, optimised, kernels) == {
        "relu_nchwc": "a/Conv",
        "fused": "b/Conv",
        "p/MaxPool": "p/MaxPool",
    }


def test_pauses_are_taken_off_what_stands_out() -> None:
    times = np.array([[1.0, 2.0], [1.0, 2.0], [1.1, 7.0], [9.0, 2.0], [1.0, 2.2]])
    found = without_pauses(times, np.array([3.0, 3.0, 3.1, 3.0, 3.2]))
    np.testing.assert_allclose(found, [[1.0, 2.0], [1.0, 2.0], [1.1, 2.0], [1.0, 2.0], [1.0, 2.2]])


def test_without_pauses_times_stay() -> None:
    times = np.array([[1.0, 2.0], [1.5, 3.0]])
    np.testing.assert_array_equal(without_pauses(times, np.array([3.0, 5.0])), times)


def test_a_node_that_is_interrupted_in_most_runs_takes_what_it_takes() -> None:
    times = np.array([[1.0, 12.0], [1.0, 9.0], [1.0, 11.0], [1.0, 2.0], [1.0, 10.0]])
    found = without_pauses(times, np.full(5, 3.0))
    np.testing.assert_allclose(found, np.tile([1.0, 2.0], (5, 1)))


class Interrupted:
    """A network whose layers are timed as longer than its processor time."""

    by_node = False

    def whole(self) -> float:
        """Return five milliseconds."""
        return 0.005

    def profile(self) -> None:
        """Run."""

    def times(self) -> dict[str, list[float]]:
        """Return ten milliseconds in two layers."""
        return {"first": [0.0, 0.002, 0.002], "second": [0.0, 0.008, 0.008]}


def test_layers_take_no_more_than_the_whole(names: LayerNames) -> None:
    found, _ = measure(Dense(lambda inputs: Interrupted(), names.layers, ()), {}, names.layers)
    assert found.total.ms == pytest.approx(5.0)
    assert {name: timing.ms for name, timing in found.layers.items()} == pytest.approx({"first": 1.0, "second": 4.0})
    assert found.rest.ms == 0
