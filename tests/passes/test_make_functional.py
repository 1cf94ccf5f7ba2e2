"""Make-functional replaces what can be replaced and changes no output, whatever aliases what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smartc.ir.traced_model import Remark
from smartc.passes.make_functional import MakeFunctional
from tests.support.oracle import relative_error
from tests.support.raw_model import operators, raw, run_pure
from tests.support.rule_networks import Network

Forward = Callable[[Any, Tensor], Tensor]


def written_through_a_view(net: Any, x: Tensor) -> Tensor:
    y = net.layer(x)
    y[:, :2].relu_()
    return y


def view_read_after_the_write(net: Any, x: Tensor) -> Tensor:
    y = net.layer(x)
    view = y.movedim(1, 0)
    return y.exp_() + view.movedim(0, 1)


def view_read_only_before(net: Any, x: Tensor) -> Tensor:
    y = net.layer(x)
    total = y.view(-1, 2, 2).sum(1)
    return y.mul_(2)[:, :2] + total


def view_of_a_view_is_overwritten(net: Any, x: Tensor) -> Tensor:
    y = net.layer(x)
    y.view(-1, 2, 2)[:, 0].zero_()
    return y * 2


def value_before_and_after(net: Any, x: Tensor) -> Tensor:
    y = net.layer(x)
    before = y + 1
    y.sigmoid_()
    return before * y


def dropout_returns_its_input(net: Any, x: Tensor) -> Tensor:
    y = net.layer(x)
    same = F.dropout(y, 0.5, False)
    return y.neg_() + same


def result_of_a_write_that_stays(net: Any, x: Tensor) -> Tensor:
    y = net.layer(x)
    view = y.flatten(1)
    z = y.add_(1)
    z.mul_(3)
    return view + y


def chain_of_writes(net: Any, x: Tensor) -> Tensor:
    return net.layer(x).add_(1).relu_().mul_(net.scale)


def assigned_slices(net: Any, x: Tensor) -> Tensor:
    y = net.layer(x)
    y[:, 1:3] = y[:, :2] + 1
    y[:, 0] = 0
    return y


def input_is_overwritten(net: Any, x: Tensor) -> Tensor:
    return net.layer(x.sub_(1).div_(2)) + x.sum(1, keepdim=True)


def part_read_later(net: Any, x: Tensor) -> Tensor:
    y = net.layer(x)
    part = y[:, :2]
    part.relu_()
    return y + part[:, :1]


def another_part_read_later(net: Any, x: Tensor) -> Tensor:
    y = net.layer(x)
    other = y[:, 1:]
    y[:, :2].relu_()
    return y + other[:, :1]


FORWARDS = (
    part_read_later,
    another_part_read_later,
    written_through_a_view,
    view_read_after_the_write,
    view_read_only_before,
    view_of_a_view_is_overwritten,
    value_before_and_after,
    dropout_returns_its_input,
    result_of_a_write_that_stays,
    chain_of_writes,
    assigned_slices,
    input_is_overwritten,
)


@pytest.mark.parametrize("forward", FORWARDS)
def test_output_is_that_of_the_module(forward: Forward) -> None:
    module = Network(forward, layer=nn.Linear(3, 4), scale=(4,))
    result = run_pure(MakeFunctional(), raw(module, torch.zeros(2, 3)))
    x = torch.randn(3, 3)
    with torch.no_grad():
        assert relative_error(module(x.clone()), result.model.run((x.clone(),))) == 0


@pytest.mark.parametrize("forward", [chain_of_writes, value_before_and_after, view_read_only_before])
def test_replaces_what_no_view_shows(forward: Forward) -> None:
    model = raw(Network(forward, layer=nn.Linear(3, 4), scale=(4,)), torch.zeros(2, 3))
    result = run_pure(MakeFunctional(), model)
    assert any(name.endswith("_") for name in operators(model))
    assert [name.removesuffix("_") for name in operators(model)] == operators(result.model)
    assert all(remark.changed for remark in result.remarks)


@pytest.mark.parametrize("forward", [written_through_a_view, assigned_slices, part_read_later])
def test_a_write_to_a_part_makes_a_new_tensor(forward: Forward) -> None:
    result = run_pure(MakeFunctional(), raw(Network(forward, layer=nn.Linear(3, 4)), torch.zeros(2, 3)))
    assert not [name for name in operators(result.model) if name.endswith("_")]
    assert all(remark.text.endswith("of a part functional") for remark in result.remarks)


def test_leaves_a_part_where_another_is_read_later() -> None:
    model = raw(Network(another_part_read_later, layer=nn.Linear(3, 4)), torch.zeros(2, 3))
    result = run_pure(MakeFunctional(), model)
    assert "relu_" in operators(result.model)
    assert result.remarks == (Remark("relu_", "relu_ writes to a part that is read later and stays"),)


@pytest.mark.parametrize("forward", [view_read_after_the_write, dropout_returns_its_input])
def test_leaves_what_a_view_shows_and_says_so(forward: Forward) -> None:
    model = raw(Network(forward, layer=nn.Linear(3, 4)), torch.zeros(2, 3))
    result = run_pure(MakeFunctional(), model)
    [name] = [name for name in operators(model) if name.endswith("_")]
    assert name in operators(result.model)
    assert result.remarks == (Remark(name, f"{name} writes through a view that is read later and stays"),)


def test_functional_model_does_not_overwrite_its_input() -> None:
    model = raw(Network(input_is_overwritten, layer=nn.Linear(3, 4)), torch.zeros(2, 3))
    x = torch.ones(3, 3)
    run_pure(MakeFunctional(), model).model.run((x,))
    assert torch.equal(x, torch.ones(3, 3))


def test_names_the_layer_of_what_it_replaced() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True))
    result = run_pure(MakeFunctional(), raw(module, torch.zeros(2, 3)))
    assert result.remarks == (Remark("1", "made relu functional", changed=True),)
    assert not run_pure(MakeFunctional(), result.model).modified


def test_input_named_like_an_operator_is_no_view() -> None:
    class Scheduled(nn.Module):
        """Takes a time as ``t``, which is also the name of a transposition."""

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return x * t.add_(1)

    result = run_pure(MakeFunctional(), raw(Scheduled(), (torch.ones(2, 3), torch.ones(2, 1))))
    assert operators(result.model) == ["add", "mul"]
