"""The batch is free however inputs are taken; where it is not, that is told in plain words, with the user's line."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor, nn

from smartc.frontend.capture import trace
from smartc.ir.traced_model import Remark
from tests.support.rule_networks import Network


def test_batch_is_fixed_where_the_module_fixes_it() -> None:
    model = trace(Network(lambda net, x: x.reshape(2, -1)), torch.zeros(2, 3, 4))
    [remark] = model.remarks
    assert not model.dynamic_batch
    assert [str(spec) for spec in model.inputs] == ["inputs_0: float32 2x3x4"]
    lines, first = inspect.getsourcelines(test_batch_is_fixed_where_the_module_fixes_it)
    line = first + next(place for place, text in enumerate(lines) if "reshape(2, -1)" in text)
    place = f"{__file__}:{line}, in <lambda>"
    assert remark.text == f"the model fixes its batch (at {place}); it is compiled for a batch of 2"
    assert model.run((torch.zeros(2, 3, 4),)).shape == (2, 12)


class Mixed(nn.Module):
    """Takes inputs by place and by name."""

    def forward(self, first: Tensor, *others: Tensor, last: Tensor) -> Tensor:
        """Return the sum of all."""
        return first + sum(others) + last


def test_batch_is_free_however_inputs_are_taken() -> None:
    x = torch.ones(2, 3)
    model = trace(Network(lambda net, *inputs: sum(inputs)), (x, x, x))
    assert model.dynamic_batch
    named = trace(Mixed(), {"first": x, "last": x})
    assert named.dynamic_batch
    assert torch.equal(named.run((torch.ones(5, 3),) * 2), 2 * torch.ones(5, 3))


def test_batch_is_fixed_by_a_layer_of_torchs_own() -> None:
    model = trace(nn.Unflatten(0, (2, 1)), torch.zeros(2, 3))
    assert model.remarks == (Remark("Unflatten", "the model fixes its batch; it is compiled for a batch of 2"),)


def test_batch_is_fixed_where_not_every_one_is_taken(capfd: pytest.CaptureFixture[str]) -> None:
    model = trace(Network(lambda net, x: x.view(x.shape[0] // 2, 2, -1).sum(1)), torch.zeros(2, 3, 4))
    text = "the model does not take every batch; it is compiled for a batch of 2"
    assert model.remarks == (Remark("Network", text),)
    assert capfd.readouterr() == ("", "")
