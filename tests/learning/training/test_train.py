"""The loop that smartc runs itself: deterministic, apart from the user's random numbers, and it says when it fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

import smartc
from smartc.core.errors import UserError
from smartc.data.batch import Batch
from smartc.data.samples import load_samples
from smartc.learning.objectives.distillation import Distillation
from smartc.learning.objectives.objective import FromDense, Objective, OwnLoss
from smartc.learning.training.distributed import Processes
from smartc.learning.training.mask_search import MaskSearch, SearchState
from smartc.learning.training.settings import Settings
from smartc.learning.training.train import Run, Training
from smartc.learning.training.weight_optimizer import set_rate, weight_optimizer
from tests.support.learning_networks import images, search, traced

pytestmark = pytest.mark.slow


def _from_dense() -> FromDense:
    """Return the distance to the dense model."""
    outputs = [traced().run((images(16),))]
    return FromDense(traced(), Distillation.of(traced()).fitted(outputs), labelled=False)


def _run(
    found: MaskSearch, objective: Objective | None = None, *, samples: Any = None, **training: Any
) -> list[SearchState]:
    """Train a search on images and return where it stood."""
    states: list[SearchState] = []
    Run(
        search=found,
        samples=load_samples(images(32), traced()) if samples is None else samples,
        objective=objective or _from_dense(),
        training=Training(found.steps, 8, **training),
        processes=Processes(),
        checkpoint=None,
        watch=states.append,
    ).train()
    return states


def _state(found: MaskSearch) -> list[torch.Tensor]:
    """Return the parameters and buffers."""
    return [*found.model.parameters(), *found.model.buffers()]


def test_the_loss_falls_and_the_masks_are_hard_in_the_end() -> None:
    found = search(sparsity=0.3, steps=40)
    states = _run(found)
    losses = [state.loss for state in states if state.loss is not None]
    assert [state.step for state in states] == list(range(40))
    assert len(losses) == 40
    assert not found.searching
    assert sum(losses[-5:]) < sum(losses[20:25])


def test_the_same_seed_gives_the_same_weights_whatever_else_is_random() -> None:
    ended = []
    for noise, seed in ((1, 0), (2, 0), (1, 3)):
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        found = search(steps=6)
        _run(found, seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        ended.append(_state(found))
    assert all(torch.equal(a, b) for a, b in zip(ended[0], ended[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(ended[0], ended[2], strict=True))


def test_bfloat16_is_autocast_and_weights_stay_float32() -> None:
    kinds: set[torch.dtype] = set()

    def loss(model: nn.Module, inputs: tuple[Any, ...], labels: Any) -> torch.Tensor:
        outputs: torch.Tensor = model(*inputs)
        kinds.add(outputs.dtype)
        return outputs.float().square().mean()

    found = search(steps=4)
    _run(found, OwnLoss(loss, traced(), "loss"), precision="bfloat16")
    assert kinds == {torch.bfloat16}
    assert {parameter.dtype for parameter in found.learned().graph_module.parameters()} == {torch.float32}
    assert found.keep is not None


@pytest.mark.parametrize(("factor", "text"), [(float("nan"), "nan"), (float("inf"), "inf")])
def test_a_loss_that_is_no_number_stops_the_training(factor: float, text: str) -> None:
    calls: list[int] = []

    def loss(model: nn.Module, inputs: tuple[Any, ...], labels: Any) -> torch.Tensor:
        calls.append(0)
        square: torch.Tensor = model(*inputs).square().mean()
        return square * (factor if len(calls) > 2 else 1.0)

    found = search(steps=6)
    with pytest.raises(UserError) as caught:
        _run(found, OwnLoss(loss, traced(), "shop:loss"))
    assert str(caught.value) == (
        f"shop:loss: the loss is {text} at step 2. Check the data, and the loss if it is your own."
    )
    assert found.done == 2
    assert all(bool(tensor.isfinite().all()) for tensor in found.model.parameters())


@dataclass(frozen=True)
class _Told:
    """Samples that note from which step they are asked for."""

    starts: list[int]
    source: str = "told"
    count: int = 8
    labelled: bool = False

    def shuffled(self, size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Yield the same batch for ever."""
        self.starts.append(start)
        while True:
            yield Batch((images(size),))

    def in_order(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        """Yield one batch."""
        yield Batch((images(size),))


def test_a_training_begins_with_the_samples_of_its_step() -> None:
    found = search(learner="magnitude", steps=5)
    found.done = 3
    told = _Told([])
    states = _run(found, samples=told)
    assert told.starts == [3]
    assert [state.step for state in states] == [3, 4]


def test_a_training_that_is_done_asks_for_nothing() -> None:
    found = search(steps=0)
    assert _run(found, samples=_Told([])) == []
    assert found.keep is not None


def test_steps_are_relative_to_the_size_of_each_tensor() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with torch.no_grad():
        module[0].weight.fill_(10.0)
        module[1].weight.fill_(1e-9)
        module[1].bias.requires_grad_(False)
    optimizer = weight_optimizer(module, {"0.bias"}, rate=0.01)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 1e-4])
    module[0](torch.ones(1, 4)).sum().backward()
    set_rate(optimizer, 50, 100)
    optimizer.step()
    assert float((module[0].weight - 10).abs().max()) == pytest.approx(0.05, rel=1e-3)


def test_a_model_without_parameters_has_an_optimizer_all_the_same() -> None:
    optimizer = weight_optimizer(nn.ReLU(), set(), rate=1.0)
    optimizer.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.0]


def test_the_rate_rises_and_falls() -> None:
    optimizer = weight_optimizer(nn.Linear(2, 2, bias=False), set(), rate=1.0)
    rates = []
    for step in range(100):
        set_rate(optimizer, step, 100)
        rates.append(optimizer.param_groups[0]["lr"] / optimizer.param_groups[0]["relative"])
    top = rates.index(max(rates))
    assert top == 4
    assert rates[:5] == sorted(rates[:5])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert max(rates) > 0.99
    assert rates[-1] < 0.001


@pytest.mark.parametrize(
    ("settings", "samples", "expected"),
    [
        (Settings(), 50_000, (64, 1562)),
        (Settings(), 64, (8, 200)),
        (Settings(), 3, (3, 200)),
        (Settings(), 2_000_000, (64, 20_000)),
        (Settings(), None, (64, 1000)),
        (Settings(steps=0), 64, (8, 0)),
        (Settings(steps=7, batch=5), 64, (5, 7)),
        (Settings(batch=10), 10_000, (10, 2000)),
    ],
)
def test_defaults_suit_the_data(settings: Settings, samples: int | None, expected: tuple[int, int]) -> None:
    assert (settings.batch_for(samples), settings.steps_for(samples)) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "steps=-1: not a number of steps. Give 0 or more."),
        ({"batch": 0}, "batch=0: not a batch size. Give 1 or more."),
        ({"precision": "half"}, "precision='half': not known. Choose one of float32, bfloat16."),
    ],
)
def test_wrong_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        Settings(**options)
    assert str(caught.value) == message


def test_no_steps_reconstruct_only() -> None:
    result = smartc.compile(
        traced(),
        target="npu-8x8",
        granularity="4x4",
        sparsity=0.5,
        data=images(24),
        backends=(),
        settings=Settings(steps=0),
    )
    learning = result.report.learning
    assert learning is not None
    assert (learning.steps, learning.curve) == (0, ())
    plain = smartc.compile(traced(), target="npu-8x8", granularity="4x4", sparsity=0.5, backends=(), learner="sp-lamp")
    inputs = images(64, seed=5)
    expected = traced().run((inputs,))
    errors = [float((one(inputs) - expected).square().mean()) for one in (result, plain)]
    assert errors[0] < errors[1]
