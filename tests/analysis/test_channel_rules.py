"""What each family of channel rules ties, reads and freezes, compared with text that can be read aloud."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smartc.analysis.channel_rules.registry import RULES, rule, rule_of
from smartc.analysis.find_channel_groups import find_channel_groups
from smartc.frontend.capture import trace
from smartc.ir.operators.table import OPERATORS as TABLE
from tests.support.read_aloud import read_aloud
from tests.support.rule_networks import RULE_NETWORKS, conv, inside
from tests.support.zoo.parameters import TiedAutoencoder

# What convolutional families meet: the base operators of 107 networks from torchvision, timm and transformers.
OPERATORS = (
    "relu silu leaky_relu gelu hardswish hardtanh tanh dropout feature_dropout neg contiguous alias detach to "
    "lift_fresh_copy conv1d conv2d conv3d conv_transpose2d linear embedding batch_norm instance_norm add sub mul "
    "div rsub prelu mean sum max softmax view reshape reshape_as flatten unflatten squeeze unsqueeze expand "
    "expand_as max_pool2d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d "
    "upsample_nearest2d upsample_bilinear2d pad roll flip cat stack split split_with_sizes chunk slice select "
    "index unbind getitem glu transpose permute sigmoid hardsigmoid masked_fill ne eq fill layer_norm group_norm "
    "_weight_norm matmul einsum scaled_dot_product_attention zeros ones new_zeros _assert_tensor_metadata lstm "
    "gru pixel_shuffle pixel_unshuffle channel_shuffle"
).split()


def described(module: nn.Module, inputs: Tensor) -> str:
    """Return the channel groups of a module as text."""
    return read_aloud(find_channel_groups(trace(module, inputs)))


@pytest.mark.parametrize("family", RULE_NETWORKS)
def test_family_reads_as_its_golden_file(family: str, golden: Callable[[str, str], None]) -> None:
    parts = [f"# {name}\n{described(*case.build())}" for name, case in RULE_NETWORKS[family].items()]
    golden(family, "\n".join(parts))


def test_refuses_a_second_rule_of_one_operator() -> None:
    first = RULES["convolution"]
    with pytest.raises(ValueError, match=r"^there are two channel rules convolution$"):
        rule("convolution")(first)
    assert RULES["convolution"] is rule_of("conv2d") is first


def test_operator_without_a_rule_freezes_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(TABLE, "relu")
    module = nn.Sequential(conv(3, 4), nn.ReLU(), conv(4, 2))
    groups = find_channel_groups(trace(module, torch.zeros(2, 3, 4, 4)))
    assert groups.count == 0
    assert groups.frozen["0.weight", 0] == "meets `relu` (1), which has no rule for channels yet"


def test_a_call_that_its_rule_does_not_know_freezes_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(site: Any, x: Any) -> Any:
        raise IndexError("tuple index out of range")

    monkeypatch.setitem(RULES, "unary", broken)
    module = nn.Sequential(conv(3, 4), nn.ReLU(), conv(4, 2))
    groups = find_channel_groups(trace(module, torch.zeros(2, 3, 4, 4)))
    assert groups.count == 0
    reason = "meets `relu` (1), which is called in a way that its rule does not know"
    assert groups.frozen["0.weight", 0] == reason


def test_only_what_other_passes_remove_lacks_a_rule() -> None:
    lacking = {"_assert_tensor_metadata", "channel_shuffle"}
    assert {name for name in OPERATORS if rule_of(name) is None} == lacking


def test_every_rule_is_of_an_operator_that_exists() -> None:
    served = [row.name for row in TABLE.values() if row.rule]
    assert [name for name in served if not hasattr(torch.ops.aten, name)] == ["getitem"]
    assert {TABLE[name].rule for name in served} == RULES.keys()


def test_group_is_named_after_its_first_layer_and_counts_its_channels() -> None:
    module, inputs = inside(lambda net, x: x + net.mid(x), mid=conv(4, 4, groups=2)).build()
    groups = find_channel_groups(trace(module, inputs)).groups
    assert [(group.name, len(group), group.weight) for group in groups] == [("stem", 2, 4)]


def test_a_weight_that_is_computed_from_all_of_its_channels_says_so() -> None:
    module, inputs = inside(
        lambda net, x: torch.nn.functional.conv2d(x, net.mid.flatten().cumsum(0).view(4, 4, 1, 1)), mid=(4, 4, 1, 1)
    ).build()
    frozen = find_channel_groups(trace(module, inputs)).frozen
    text = "multiplies them by a weight that is computed from other tensors in a way that keeps all of its channels"
    assert frozen["stem.weight", 0] == f"meets `conv2d` (conv2d_1), which {text}"


def test_tied_weight_owns_and_reads_by_one_axis() -> None:
    groups = find_channel_groups(trace(TiedAutoencoder(), torch.zeros(2, 40)))
    roles = [(axis.axis, axis.role) for axis in groups.axes if axis.name == "second.weight"]
    assert roles == [(0, "owns"), (0, "reads"), (1, "owns"), (1, "reads")]
