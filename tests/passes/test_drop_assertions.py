"""Drop-assertions takes out what only checks, and nothing else."""

from __future__ import annotations

import torch
from torch import Tensor

from smartc.ir.traced_model import Remark
from smartc.passes.drop_assertions import DropAssertions
from tests.support.raw_model import operators, raw, run_pure
from tests.support.rule_networks import Network


def test_drops_the_checks_that_the_exporter_adds() -> None:
    model = raw(Network(lambda net, x: x.to(torch.float64) + 1), torch.zeros(2, 3))
    assert operators(model) == ["_assert_tensor_metadata", "to", "add"]
    result = run_pure(DropAssertions(), model)
    assert operators(result.model) == ["to", "add"]
    assert result.remarks == (Remark("_assert_tensor_metadata_default", "dropped an assertion", changed=True),)
    x = torch.randn(3, 3)
    assert torch.equal(result.model.run((x,)), x.double() + 1)


def test_drops_checks_of_values() -> None:
    def checked(net: Network, x: Tensor) -> Tensor:
        torch.ops.aten._assert_async.msg((x > -9).all(), "too small")
        return x + 1

    result = run_pure(DropAssertions(), raw(Network(checked), torch.zeros(2, 3)))
    assert operators(result.model) == ["add"]


def test_leaves_a_model_without_checks_as_it_is() -> None:
    model = raw(Network(lambda net, x: x.relu()), torch.zeros(2, 3))
    result = run_pure(DropAssertions(), model)
    assert not result.modified
    assert operators(result.model) == ["relu"]
