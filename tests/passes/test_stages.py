"""The list of passes: it holds every pass, and a stage runs its own with the options that are their fields."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import smartc.passes
from smartc.analysis.find_channel_groups import find_channel_groups
from smartc.frontend.capture import trace
from smartc.ir.traced_model import TracedModel
from smartc.passes.shared.base import listening
from smartc.passes.stages import PASSES, run_stage

FOLDER = Path(smartc.passes.__path__[0])


def classes() -> set[type[Any]]:
    """Return the classes in passes/ that are passes."""
    modules = [import_module(f"smartc.passes.{file.stem}") for file in FOLDER.glob("*.py") if file.stem != "__init__"]
    found = {
        kind
        for module in modules
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if kind.__module__ == module.__name__
    }
    return {kind for kind in found if hasattr(kind, "run") and isinstance(getattr(kind, "name", None), str)}


def small() -> TracedModel:
    """Return two linear layers."""
    return trace(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval(), torch.randn(2, 4))


def test_every_pass_is_listed_once() -> None:
    assert {kind for _, kind in PASSES} == classes()
    assert len({kind.name for _, kind in PASSES}) == len(PASSES)


def test_a_stage_takes_the_fields_of_its_passes() -> None:
    model = small()
    groups = find_channel_groups(model)
    keep = np.arange(groups.count) % 2 == 0
    smaller = run_stage("remove", model, groups=groups, keep=keep).model
    assert smaller.tensor("0.weight").shape == (4, 4)


@pytest.mark.parametrize(("stage", "options"), [("capture", {"keep": 1}), ("no such stage", {})])
def test_refuses_what_it_does_not_know(stage: str, options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"takes no (keep|passes)"):
        run_stage(stage, small(), **options)


def test_whoever_listens_is_told_of_every_pass() -> None:
    heard: list[str] = []
    model = small()
    with listening(lambda step, result: heard.append(step.name)):
        run_stage("capture", model)
    run_stage("capture", model)
    assert heard == [kind.name for stage, kind in PASSES if stage == "capture"]
