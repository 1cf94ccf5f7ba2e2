"""Heads go whole, whatever stands between them: against the masked original, batch free and fixed, in two types."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smartc.analysis.find_channel_groups import find_channel_groups
from smartc.frontend.capture import trace
from tests.support.cut_model import Cut, cut_module, random_keep
from tests.support.oracle import FLOAT32_TOLERANCE, TOLERANCE, assert_equals_masked, masked_original, relative_error
from tests.support.zoo import BATCH, CASES
from tests.support.zoo.heads import ATTENTION, HEADS

UNITS = {name: heads.units for name, heads in ATTENTION.items()}
UNITS |= {"single_key_beside_queries": HEADS, "bias_zeroed_in_part": HEADS, "multihead_attention": HEADS}


class Fixed(nn.Module):
    """A module whose batch is the example's, and no other."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Any:
        return self.module(x + torch.zeros(BATCH, 1, 1, dtype=x.dtype))


@pytest.mark.parametrize("name", UNITS)
def test_heads_go_with_a_free_batch(name: str) -> None:
    module, inputs = CASES[name].build()
    model = trace(module, inputs)
    groups = find_channel_groups(model)
    assert model.dynamic_batch
    assert UNITS[name] in [
        len(group) for group in groups.groups if "attention" in group.name or "ear" not in group.name
    ]
    for seed in range(3):
        cut = Cut(model, groups, random_keep(groups, seed))
        assert not cut.keep.all()
        assert_equals_masked(module, inputs, cut)


@pytest.mark.parametrize("name", UNITS)
def test_heads_go_with_a_fixed_batch(name: str) -> None:
    module, inputs = CASES[name].build()
    done = cut_module(Fixed(module).eval(), inputs, seed=1)
    assert not done.original.dynamic_batch
    assert UNITS[name] in [len(group) for group in done.groups.groups]
    expected = masked_original(Fixed(module), done.to_dict())(*inputs)
    assert relative_error(expected, done.module(*inputs)) < TOLERANCE


@pytest.mark.parametrize("name", UNITS)
def test_heads_go_in_float32(name: str) -> None:
    module, inputs = CASES[name].build(dtype=torch.float32)
    done = cut_module(module, inputs, seed=2)
    expected = masked_original(module, done.to_dict())(*(x.double() for x in inputs))
    assert relative_error(expected, done.module(*inputs)) < FLOAT32_TOLERANCE
