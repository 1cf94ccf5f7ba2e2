"""A compile job: a captured model, its channels and layers, a target and a budget."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from smartc.analysis.find_layers import Layers
from smartc.core.errors import Argument, UserError
from smartc.frontend.capture import trace
from smartc.ir.traced_model import TracedModel
from smartc.masks.granularity import Granularity
from smartc.selection.budget import Budget
from smartc.targets.target import Target


@dataclass(frozen=True, eq=False)
class Clock:
    """Processor seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the processor time of a block to a stage."""
        start = time.process_time()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.process_time() - start


@dataclass(frozen=True, eq=False)
class CompileJob:
    """What is to be compiled, and for what.

    Attributes:
        original: The model as it was captured.
        layers: Its layers, with its channel groups.
        target: The device.
        budget: What was asked for.
        granularity: What a mask removes at a time.
        learner: Where the masks come from.
        clock: How long each stage took.
    """

    original: TracedModel
    layers: Layers
    target: Target
    budget: Budget
    granularity: Granularity
    learner: str
    clock: Clock


def captured(model: Any, example_inputs: Any) -> TracedModel:
    """Return the TracedModel of whatever the user gave.

    Raises:
        UserError: It is no model, or its inputs are missing.
    """
    if isinstance(model, TracedModel):
        return model
    if isinstance(model, (str, Path)):
        from smartc.frontend.model_file import load_model

        return load_model(model)
    if not isinstance(model, nn.Module):
        fix = "Give an nn.Module or a file's path"
        raise UserError(f"a {type(model).__name__} is no model", where="smartc.compile", fix=fix)
    if example_inputs is None:
        fix = "Give example_inputs, a batch of at least one"
        raise UserError("example inputs are missing", where=type(model).__name__, fix=fix)
    return trace(model, example_inputs)


def check_choice(given: str, known: Collection[str], where: Argument) -> None:
    """Fail unless a word is one of the known."""
    if given not in known:
        raise UserError("not known", where=where, fix=f"Choose one of {', '.join(known)}")
