"""The oracle is right on plans written by hand, and sees faults planted in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.channel_count import ChannelCount, count_channels
from tests.support.oracle import (
    assert_equals_masked,
    errors_by_batch,
    masked_state,
    relative_error,
    removed_share,
    with_batch,
)

KEPT = [0, 2, 3]


def entry(shape: list[int], *axes: tuple[int, str, list[int]]) -> dict[str, Any]:
    """Return the plan's entry of one tensor."""
    return {"shape": shape, "axes": [{"axis": axis, "role": role, "kept": kept} for axis, role, kept in axes]}


def plan_of_pair() -> dict[str, Any]:
    """Return a plan that takes two of the five hidden features of ``pair``."""
    return {
        "tensors": {
            "0.weight": entry([5, 4], (0, "owns", KEPT)),
            "0.bias": entry([5], (0, "follows", KEPT)),
            "2.weight": entry([2, 5], (1, "reads", KEPT)),
        }
    }


def pair(hidden: int = 5) -> nn.Sequential:
    """Return two linear layers about a sigmoid, which is not zero at zero."""
    return nn.Sequential(nn.Linear(4, hidden), nn.Sigmoid(), nn.Linear(hidden, 2)).double()


def cut_pair(original: nn.Sequential) -> nn.Sequential:
    """Return the pair without its features 1 and 4."""
    first, last = original.get_submodule("0"), original.get_submodule("2")
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    smaller = pair(len(KEPT))
    weights = (first.weight[KEPT], first.bias[KEPT], last.weight[:, KEPT], last.bias)
    names = ("0.weight", "0.bias", "2.weight", "2.bias")
    smaller.load_state_dict(dict(zip(names, weights, strict=True)))
    return smaller


@dataclass(frozen=True)
class HandPlan:
    """A plan as ``Compiled`` carries it."""

    content: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return self.content


@dataclass(frozen=True)
class HandCompiled:
    """The parts of ``Compiled`` that the oracle looks at."""

    module: nn.Module
    plan: HandPlan
    report: dict[str, Any]


def compiled_pair(module: nn.Module) -> HandCompiled:
    """Return a module beside the plan that takes two features of five."""
    return HandCompiled(module, HandPlan(plan_of_pair()), {"summary": {"removed_channels": 2, "prunable_channels": 5}})


def test_masks_readers_and_nothing_else() -> None:
    state = pair().state_dict()
    masked = masked_state(state, plan_of_pair())
    assert masked["2.weight"][:, [1, 4]].abs().max() == 0
    assert torch.equal(masked["2.weight"][:, KEPT], state["2.weight"][:, KEPT])
    assert all(torch.equal(masked[name], state[name]) for name in ("0.weight", "0.bias", "2.bias"))
    assert state["2.weight"].abs().min() > 0


def test_accepts_the_network_that_was_cut_right() -> None:
    original = pair()
    inputs = (torch.randn(2, 4, dtype=torch.float64),)
    assert_equals_masked(original, inputs, compiled_pair(cut_pair(original)))
    assert list(errors_by_batch(original, inputs, compiled_pair(cut_pair(original)))) == [2, 1, 3]


def test_refuses_the_network_that_was_cut_wrong() -> None:
    original = pair()
    wrong = cut_pair(original)
    state = wrong.state_dict() | {"2.weight": original.state_dict()["2.weight"][:, [0, 2, 4]]}
    wrong.load_state_dict(state)
    with pytest.raises(AssertionError, match=r"batch 2: relative error .* exceeds 1e-10"):
        assert_equals_masked(original, (torch.randn(2, 4),), compiled_pair(wrong))


def test_masks_a_tied_weight_under_both_names() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x))

    tied = Tied()
    plan = {"tensors": {"first.weight": entry([3, 3], (1, "reads", [0, 2]))}}
    tied.load_state_dict(masked_state(tied.state_dict(), plan))
    assert tied.second.weight[:, 1].abs().max() == 0
    assert tied.first.weight[:, [0, 2]].abs().min() > 0


@pytest.mark.parametrize(
    ("name", "axis", "message"),
    [
        ("3.weight", (0, "reads", [0]), "the plan masks 3.weight, which the state_dict does not have"),
        ("2.weight", (1, "eats", [0]), "2.weight: role 'eats' is none of owns, reads, follows"),
        ("2.weight", (1, "reads", [5]), "2.weight: kept indices of axis 1 are not different numbers below 5"),
        (
            "2.weight",
            (1, "reads", [0, 0]),
            "2.weight: kept indices of axis 1 are not different numbers below 5",
        ),
        ("0.bias", (0, "follows", [0]), "0.bias: shape [2, 5] has not the 1 axes of the tensor"),
    ],
)
def test_refuses_a_plan_that_does_not_fit(name: str, axis: tuple[int, str, list[int]], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        masked_state(pair().state_dict(), {"tensors": {name: entry([2, 5], axis)}})
    assert str(caught.value) == message


def test_leaves_out_a_buffer_that_is_not_persistent() -> None:
    state = pair().state_dict()
    masked = masked_state(state, {"tensors": {"shift": entry([5], (0, "follows", KEPT))}})
    assert all(torch.equal(masked[name], state[name]) for name in state)


def test_relative_error_is_the_worst_leaf() -> None:
    expected = {"a": torch.tensor([2.0, -4.0]), "b": [torch.tensor([1.0]), None, 3]}
    actual = {"a": torch.tensor([2.0, -3.0]), "b": [torch.tensor([1.5]), None, 3]}
    assert relative_error(expected, expected) == 0
    assert relative_error(expected, actual) == 0.5
    assert relative_error(torch.zeros(2), torch.ones(2)) == float("inf")
    assert relative_error(torch.ones(1), torch.tensor([float("nan")])) == float("inf")


@pytest.mark.parametrize(
    ("expected", "actual", "message"),
    [
        ((torch.ones(1),), [torch.ones(1)], "the outputs differ in structure"),
        (torch.ones(2), torch.ones(1), "the outputs have shapes (2,) and (1,)"),
        ((torch.ones(1), 3), (torch.ones(1), 4), "the outputs hold 3 and 4"),
    ],
)
def test_relative_error_refuses_what_cannot_be_compared(expected: Any, actual: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        relative_error(expected, actual)
    assert str(caught.value).startswith(message)


def test_other_batches_repeat_whole_numbers_and_disturb_the_rest() -> None:
    inputs = (torch.randn(2, 4), {"ids": torch.tensor([[5], [7]])})
    numbers, named = with_batch(inputs, 3)
    assert numbers.dtype == torch.float64
    assert numbers.shape == (3, 4)
    assert named["ids"].tolist() == [[5], [7], [5]]
    assert torch.equal(with_batch(inputs, 2)[0], inputs[0].double())


def test_counts_channels_of_weights_once() -> None:
    original = pair()
    assert count_channels(original, plan_of_pair()) == ChannelCount(total=7, cut=5, removed=2)
    assert removed_share(compiled_pair(original)) == pytest.approx(0.4)
