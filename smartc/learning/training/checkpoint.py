"""Checkpoints: the whole state of a training in one file, written at once, to go on from after a kill."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from smartc.core.errors import Argument, UserError, first_line
from smartc.core.regular_file import open_regular
from smartc.learning.training.checkpoint_form import check_tensors, facts_of, no_checkpoint, read_facts
from smartc.learning.training.mask_search import MaskSearch

SCHEMA = "3"
# Seconds between two checkpoints.
INTERVAL = 20.0


@dataclass
class Checkpoint:
    """Where a training keeps its state.

    Attributes:
        path: The file.
        about: What the training is made for; a state of another one is refused.
        resume: Whether to go on from a state that is there.
        interval: Seconds between two states.
        writes: Whether this process writes; of several that train together one does.
    """

    path: Path
    about: str
    resume: bool = False
    interval: float = INTERVAL
    writes: bool = True
    last: float = field(default_factory=time.monotonic)

    def check(self) -> None:
        """Fail if there is a state that would be lost, or none to go on with.

        Raises:
            UserError: One is there and shall not be resumed, or none is and one shall be.
        """
        if self.resume and not self.path.exists():
            fix = ("Leave ", Argument("resume", True), " out to begin, or name the place of one that was cut off")
            raise UserError("there is no unfinished training to go on with", where=str(self.path), fix=fix)
        if self.path.exists() and not self.resume:
            fix = ("Add ", Argument("resume", True), " to go on with it, or delete the file")
            raise UserError("holds an unfinished training", where=str(self.path), fix=fix)

    def keep(self, search: MaskSearch, optimizer: torch.optim.Optimizer) -> None:
        """Write the state if it is time to."""
        if self.writes and time.monotonic() - self.last >= self.interval:
            self.write(search, optimizer)
            self.last = time.monotonic()

    def write(self, search: MaskSearch, optimizer: torch.optim.Optimizer) -> None:
        """Write the state: all of it or none.

        Raises:
            UserError: The file cannot be written.
        """
        state = _state(search, optimizer)
        facts = {"schema": SCHEMA, "about": self.about, **facts_of(search, state)}
        beside = self.path.with_name(self.path.name + ".new")
        try:
            save_file(state, beside, metadata=facts)
            os.replace(beside, self.path)
        except (OSError, SafetensorError) as error:
            beside.unlink(missing_ok=True)
            raise UserError(f"cannot be written: {error}", where=str(self.path), fix="Make room for it") from error

    def restore(self, search: MaskSearch, optimizer: torch.optim.Optimizer) -> None:
        """Take the state over if there is one to resume.

        Raises:
            UserError: The file is none of ours, damaged, or of another training; nothing is taken over.
        """
        if not self.resume or not self.path.exists():
            return
        facts, tensors = self._read()
        if facts.get("schema") != SCHEMA or facts.get("about") != self.about:
            fix = "Resume with the same model, data and options, or delete the file"
            raise UserError("holds a training of something else", where=str(self.path), fix=fix)
        known = read_facts(facts, search, str(self.path))
        expected = _state(search, optimizer)
        if "keep" in tensors:
            expected["keep"] = torch.zeros(search.learner.mask.shape, dtype=torch.bool)
        try:
            check_tensors(tensors, expected, optimizer, known.tensors)
        except ValueError as error:
            raise no_checkpoint(str(error), str(self.path)) from error
        search.done, search.fractional, search.curve[:] = known.done, known.fractional, known.curve
        _restore(search, optimizer, tensors)

    def _read(self) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
        """Return the facts and the tensors that the file holds."""
        try:
            with open_regular(self.path), safe_open(self.path, "pt") as file:
                return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, ValueError, AttributeError) as error:
            fix = "Delete it and start anew"
            raise UserError(f"is no checkpoint: {first_line(error)}", where=str(self.path), fix=fix) from error

    def remove(self) -> None:
        """Delete the state: the training is done and its result is written."""
        if self.writes:
            self.path.unlink(missing_ok=True)


def _state(search: MaskSearch, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return every tensor that the rest of a training depends on."""
    module = search.model
    tensors: dict[str, Any] = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    state = {f"model.{name}": tensor for name, tensor in tensors.items()}
    state |= {f"learner.{name}": tensor for name, tensor in search.learner.state().items()}
    state |= optimizer_state(optimizer)
    if search.keep is not None:
        state["keep"] = torch.from_numpy(search.keep)
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}


def _restore(search: MaskSearch, optimizer: torch.optim.Optimizer, state: dict[str, torch.Tensor]) -> None:
    """Put every tensor back in its place."""
    module = search.model
    tensors: dict[str, Any] = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(state[f"model.{name}"])
    search.learner.restore(
        {name.removeprefix("learner."): t for name, t in state.items() if name.startswith("learner.")}
    )
    restore_optimizer(optimizer, state)
    if "keep" in state:
        search.keep = np.asarray(state["keep"].numpy(), dtype=bool)
        search.learner.searching = False


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return an optimizer's tensors by the number of the parameter and the name of the state."""
    entries = optimizer.state_dict()["state"]
    return {f"optimizer.{number}.{name}": value for number, entry in entries.items() for name, value in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, torch.Tensor]) -> None:
    """Give an optimizer the tensors that it had."""
    content = optimizer.state_dict()
    entries: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in state.items():
        if key.startswith("optimizer."):
            _, number, name = key.split(".", 2)
            entries.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({**content, "state": entries})
