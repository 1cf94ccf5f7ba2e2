"""A damaged checkpoint is refused in one sentence, whatever of it is damaged, and nothing of it is taken over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from smartc.core.errors import UserError
from smartc.learning.training.checkpoint import Checkpoint
from smartc.learning.training.mask_search import MaskSearch
from smartc.learning.training.weight_optimizer import weight_optimizer
from tests.support.learning_networks import search, train

STEPS = 12
Tensors = dict[str, torch.Tensor]
TEXTS = ("", "null", "[]", "{}", "-1", "1e999", "NaN", '"x"', "[[]]", "[" * 100_000, "9" * 5000, '[{"step": 1}]')


def _begun() -> tuple[MaskSearch, torch.optim.Optimizer]:
    """Return a search that was not trained yet, and what it trains with."""
    found = search("4x4", latency="0.7x", steps=STEPS)
    return found, weight_optimizer(found.model, {"smartc_masks.scores"}, 0.01)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], Tensors]:
    """Return facts and tensors of a state after four steps."""
    path = tmp_path_factory.mktemp("checkpoint") / "state"
    found, optimizer = _begun()
    found.steps = 4
    train(found, optimizer)
    Checkpoint(path, "a").write(found, optimizer)
    with safe_open(path, "pt") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _damaged(facts: dict[str, str], tensors: Tensors) -> Iterator[tuple[str, dict[str, str], Tensors]]:
    """Yield the state with one thing wrong, for every thing that can be."""
    for name in ("done", "fractional", "curve", "tensors"):
        yield f"no {name}", {key: text for key, text in facts.items() if key != name}, tensors
        for text in TEXTS:
            if not (name == "curve" and text == "[]"):  # a training that nobody looked at yet
                yield f"{name} {text[:20]}", {**facts, name: text}, tensors
    for name, tensor in tensors.items():
        yield f"no {name}", facts, {key: value for key, value in tensors.items() if key != name}
        wide = tensor.new_zeros((*tensor.shape, 3))
        yield f"another shape of {name}", facts, {**tensors, name: wide}
        if not name.startswith("optimizer."):
            kind = torch.int16 if tensor.dtype != torch.int16 else torch.float32
            yield f"another type of {name}", facts, {**tensors, name: tensor.to(kind)}
    for name in ("optimizer.99.step", "optimizer.x.step", "optimizer.-1.step", "model.x", "y"):
        yield f"{name} more", facts, {**tensors, name: torch.zeros(())}


def test_whatever_is_damaged_is_refused(tmp_path: Path, written: tuple[dict[str, str], Tensors]) -> None:
    path = tmp_path / "state"
    found, optimizer = _begun()
    fresh = {name: tensor.clone() for name, tensor in found.model.state_dict().items()}
    refusals = []
    for what, facts, tensors in _damaged(*written):
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, path, metadata=facts)
        with pytest.raises(UserError) as caught:
            Checkpoint(path, "a", resume=True).restore(found, optimizer)
        text = str(caught.value)
        assert text.startswith(f"{path}: is no checkpoint of this training: "), what
        assert text.endswith(" Delete it and start anew."), what
        assert "\n" not in text
        refusals.append(text)
    assert len(refusals) > 100
    assert found.done == 0
    assert all(torch.equal(tensor, fresh[name]) for name, tensor in found.model.state_dict().items())


def test_a_pipe_in_its_place_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    os.mkfifo(path)
    with pytest.raises(UserError, match="it is a named pipe and no ordinary file"):
        Checkpoint(path, "a", resume=True).restore(*_begun())
