"""A training that was cut off goes on to the same plan and the same weights, and only a state of its own is taken."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import smartc
from smartc.core.errors import UserError
from smartc.learning.learners import schedule
from smartc.learning.learners.schedule import SCHEDULES
from smartc.learning.learners.taylor import Taylor
from smartc.learning.training import checkpoint
from smartc.learning.training.checkpoint import Checkpoint
from smartc.learning.training.mask_search import SearchState
from smartc.learning.training.weight_optimizer import weight_optimizer
from smartc.masks.units import FloatArray
from tests.support.learning_networks import images, search, traced, train

pytestmark = pytest.mark.slow

STEPS, RATE = 12, 0.01
OTHER = "holds a training of something else. Resume with the same model, data and options, or delete the file."


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a state be written after every step: the clock leaps."""
    leaps = itertools.count(1e9, 100.0)
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: next(leaps)))


class Killed(Exception):
    """The process is gone."""


def _compile(path: Path | None, *, kill: int = -1, resume: bool = False, **options: Any) -> smartc.Compiled:
    """Learn on few images, and be killed after some step."""

    def watch(state: SearchState, steps: int, met: float) -> None:
        if state.step == kill:
            raise Killed

    options = {"granularity": "4x4", "sparsity": 0.6, "data": images(24)} | options
    settings = smartc.Settings(steps=STEPS, checkpoint=path, resume=resume, **options.pop("settings", {}))
    return smartc.compile(traced(), target="npu-8x8", backends=(), settings=settings, watch=watch, **options)


def _same(left: smartc.Compiled, right: smartc.Compiled) -> bool:
    """Return whether plans and weights are the same bit by bit."""
    assert left.plan.to_dict() == right.plan.to_dict()
    a, b = left.model.graph_module.state_dict(), right.model.graph_module.state_dict()
    return left.plan.sha256 == right.plan.sha256 and a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


CASES: list[tuple[str, dict[str, Any], list[int]]] = [
    ("smart", {}, [0, 4, 8]),
    ("smart", {"sparsity": None, "latency": "0.7x"}, [3, 5]),
    ("smart", {"granularity": "channel"}, [4]),
    ("smart", {"granularity": "2:4", "sparsity": None}, [4]),
    ("pdp", {}, [5]),
    ("ac-dc", {}, [5]),
    ("taylor", {"settings": {"batch": 6}}, [0, 7]),
]


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize(("learner", "options", "kills"), CASES)
def test_a_training_goes_on_where_it_was(
    tmp_path: Path, learner: str, options: dict[str, Any], kills: list[int]
) -> None:
    """Killed several times on the way; the first kill is before the first state is written if it is at step 0."""
    whole = _compile(None, learner=learner, **options)
    path = tmp_path / "state"
    for kill in kills:
        with pytest.raises(Killed):
            _compile(path, kill=kill, resume=path.exists(), learner=learner, **options)
        assert path.exists() == (kill > 0)
    resumed = _compile(path, resume=True, learner=learner, **options)
    assert _same(whole, resumed)
    assert resumed.report.learning == whole.report.learning


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("options", [{}, {"granularity": "2:4", "sparsity": None}])
def test_a_mask_that_serves_several_steps_goes_on_serving(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The search's four steps have one mask.
    monkeypatch.setattr(schedule, "SHORTEST_SEARCH", 1)
    for kind, row in SCHEDULES.items():
        monkeypatch.setitem(SCHEDULES, kind, replace(row, moves=1))
    options = {"data": images(1000), "settings": {"batch": 8}} | options
    whole = _compile(None, **options)
    with pytest.raises(Killed):
        _compile(tmp_path / "state", kill=2, **options)
    assert _same(whole, _compile(tmp_path / "state", resume=True, **options))


@pytest.mark.usefixtures("often")
def test_batch_norms_that_learn_and_dropout_go_on_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = (torch.nn.Conv2d(3, 16, 3), torch.nn.BatchNorm2d(16), torch.nn.ReLU(), torch.nn.Dropout(0.3))
    model = smartc.trace(torch.nn.Sequential(*layers, torch.nn.Conv2d(16, 16, 3)).eval(), torch.zeros(2, 3, 8, 8))

    def run(path: Path | None, **options: Any) -> smartc.Compiled:
        def watch(state: SearchState, steps: int, met: float) -> None:
            if state.step == options.get("kill"):
                raise Killed

        settings = smartc.Settings(steps=STEPS, batch=8, checkpoint=path, resume="resume" in options)
        return smartc.compile(
            model,
            target="npu-8x8",
            granularity="4x4",
            data=images(1000),
            backends=(),
            settings=settings,
            watch=watch,
        )

    whole = run(None)
    with pytest.raises(Killed):
        run(tmp_path / "state", kill=7)
    assert _same(whole, run(tmp_path / "state", resume=True))


@pytest.mark.usefixtures("often")
def test_a_state_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with pytest.raises(Killed):
        _compile(path, kill=2)
    before = path.read_bytes()
    others: list[dict[str, Any]] = [
        {"sparsity": 0.5},
        {"granularity": "8x8"},
        {"learner": "pdp"},
        {"data": images(25)},
        {"data": images(24, seed=2)},
        {"settings": {"seed": 1}},
        {"settings": {"batch": 4}},
        {"settings": {"precision": "bfloat16"}},
        {"train": _loss},
    ]
    for options in others:
        with pytest.raises(UserError) as caught:
            _compile(path, resume=True, **options)
        assert str(caught.value) == f"{path}: {OTHER}"
    with pytest.raises(UserError) as caught:
        _compile(path)
    fix = "Add resume=True to go on with it, or delete the file."
    assert str(caught.value) == f"{path}: holds an unfinished training. {fix}"
    assert path.read_bytes() == before


def _loss(model: Any, inputs: Any, labels: Any) -> torch.Tensor:
    """Return a loss of the user's."""
    return model(*inputs).square().mean()


def test_a_broken_state_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    for content in (b"", b"once upon a time", b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            _compile(path, resume=True)
        text = str(caught.value)
        assert text.startswith(f"{path}: is no checkpoint: ")
        assert text.endswith(" Delete it and start anew.")
        assert "\n" not in text
        assert path.read_bytes() == content
    save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(UserError) as caught:
        _compile(path, resume=True)
    assert str(caught.value) == f"{path}: {OTHER}"


def test_to_resume_needs_a_path_and_a_state_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        _compile(None, resume=True)
    assert str(caught.value) == "resume: no checkpoint is named. Give the path of one."
    with pytest.raises(UserError) as caught:
        _compile(tmp_path / "state", resume=True)
    fix = "Leave resume=True out to begin, or name the place of one that was cut off."
    assert str(caught.value) == f"{tmp_path}/state: there is no unfinished training to go on with. {fix}"


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    """The mask, the learner's own optimizer and prices, the curve and the weights' optimizer."""
    first, second = (search("4x4", latency="0.7x", steps=STEPS) for _ in range(2))
    optimizers = [weight_optimizer(found.model, {"smartc_masks.scores"}, RATE) for found in (first, second)]
    first.steps = 4
    train(first, optimizers[0])
    path = tmp_path / "state"
    Checkpoint(path, "a").write(first, optimizers[0])
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]
    Checkpoint(path, "a", resume=True).restore(second, optimizers[1])
    assert (second.done, second.curve) == (4, first.curve)
    assert second.learner.inputs.budget.limit == first.learner.inputs.budget.limit
    assert (second.learner.inputs.budget.cost == first.learner.inputs.budget.cost).all()
    for found in (first, second):
        found.steps = STEPS
        train(found, optimizers[found is second])
    assert (first.keep == second.keep).all()
    state = second.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in first.model.state_dict().items())


def test_a_folder_that_is_gone_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    found = search()
    optimizer = weight_optimizer(found.model, set(), RATE)
    path = tmp_path / "nowhere" / "state"
    with pytest.raises(UserError) as caught:
        Checkpoint(path, "a").write(found, optimizer)
    text = str(caught.value)
    assert text.startswith(f"{path}: cannot be written: ")
    assert text.endswith(". Make room for it.")


def test_one_of_several_processes_writes_and_removes(tmp_path: Path) -> None:
    found = search()
    optimizer = weight_optimizer(found.model, set(), RATE)
    path = tmp_path / "state"
    silent, writing = (Checkpoint(path, "a", interval=0.0, writes=writes) for writes in (False, True))
    silent.keep(found, optimizer)
    assert not path.exists()
    writing.keep(found, optimizer)
    silent.remove()
    assert path.exists()
    writing.remove()
    assert not path.exists()
    Checkpoint(path, "a").keep(found, optimizer)
    assert not path.exists()  # it is not time yet


@pytest.mark.usefixtures("often")
def test_the_plan_tells_of_channels_what_the_masks_came_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the search had ended before, and with other channels than the weights alone would leave."""

    def priorities(learner: Taylor) -> FloatArray:
        layer_of = learner.inputs.units.layer_of
        return 1e-6 + (layer_of < layer_of.max())

    monkeypatch.setattr(Taylor, "priorities", priorities)
    options = {"granularity": "channel", "learner": "taylor", "sparsity": 0.3}
    whole = _compile(None, **options)
    with pytest.raises(Killed):
        _compile(tmp_path / "state", kill=9, **options)
    resumed = _compile(tmp_path / "state", resume=True, **options)
    assert _same(whole, resumed)
    weight = resumed.model.graph_module.state_dict()
    kept = {group["name"]: group["kept"] for group in resumed.plan.to_dict()["groups"]}
    assert kept == {name: len(weight[f"{name}.weight"]) for name in kept}
