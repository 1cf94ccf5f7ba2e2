"""Names and values of the one representation that passes and reports rely on."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from smartc.frontend.capture import trace
from smartc.ir.traced_model import (
    BATCH_PRIME,
    InputSpec,
    TracedModel,
    Value,
    layer_name,
    operator_name,
    stored_name,
    value_of,
)


class Block(nn.Module):
    """A layer that is a module and one that is an expression."""

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.register_buffer("table", torch.tensor([2, 0]))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.layer(x))
        return torch.cat((y, y), 0)[:, self.table]


def captured() -> TracedModel:
    """Return a network that holds the block twice, below a name."""
    return trace(nn.Sequential(nn.Sequential(Block()), nn.Linear(2, 2)), torch.zeros(2, 3))


def call(model: TracedModel, operator: str) -> fx.Node:
    """Return the first call of an operator."""
    return next(node for node in model.calls() if operator_name(node.target) == operator)


def test_layer_is_named_after_its_module_and_the_operator_outside_of_one() -> None:
    model = captured()
    names = [layer_name(node) for node in model.calls()]
    assert names == ["0.0.layer", "0.0.tanh", "0.0.cat", "0.0.slice_1", "0.0.index", "1"]


def test_operator_name_leaves_out_the_overload() -> None:
    assert operator_name(torch.ops.aten.add_.Tensor) == "add_"
    assert operator_name(torch.ops.aten.upsample_bilinear2d.vec) == "upsample_bilinear2d"
    assert operator_name(captured().copy) == "copy"


def test_value_tells_the_batch_from_sizes() -> None:
    value = value_of(call(captured(), "cat"))
    assert value == Value((2 * BATCH_PRIME, 4), torch.float32, frozenset({0}))
    assert value.single == (2, 4)
    assert value.resized(1, 3).shape == (2 * BATCH_PRIME, 3)


def test_stored_name_is_that_of_a_constant_passed_on() -> None:
    model = captured()
    index = call(model, "index").args[1][1]  # type: ignore[index]
    assert isinstance(index, fx.Node)
    assert stored_name(index) == "0.0.table"
    assert stored_name(call(model, "cat")) is None


def test_input_reads_as_type_and_shape() -> None:
    assert str(InputSpec("x", (None, 3, 4), torch.float16)) == "x: float16 Nx3x4"
    assert str(InputSpec("k", (), torch.int64)) == "k: int64 scalar"
