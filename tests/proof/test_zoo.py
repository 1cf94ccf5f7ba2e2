"""The zoo is small, repeatable and awake: what leaves each network depends on what enters it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from tests.support.oracle import relative_error
from tests.support.zoo import CASES, FAMILIES, case


def test_covers_every_family() -> None:
    assert {entry.family for entry in CASES.values()} == {module.__name__.rsplit(".", 1)[-1] for module in FAMILIES}
    assert len(CASES) >= 85


def test_refuses_a_second_case_of_one_name() -> None:
    with pytest.raises(ValueError, match=r"^the zoo already has a case 'plain_chain'$"):
        case("plain_chain", (3, 8, 8))(nn.Identity)


@pytest.mark.parametrize("name", CASES)
def test_network_is_small_repeatable_and_awake(name: str) -> None:
    module, inputs = CASES[name].build()
    assert sum(parameter.numel() for parameter in module.parameters()) < 300_000
    assert not any(child.training for child in module.modules())
    with torch.no_grad():
        outputs = module(*inputs)
        other = module(*CASES[name].build(seed=1)[1])
        again, same = CASES[name].build()
        assert relative_error(outputs, again(*same)) == 0
    assert relative_error(outputs, other) > 1e-2
    assert all(leaf.dtype == torch.float64 for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor))
