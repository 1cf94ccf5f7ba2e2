"""Models as the exporter leaves them, for tests of the passes that every captured model goes through."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from smartc.frontend import capture
from smartc.frontend.capture import trace
from smartc.ir.traced_model import TracedModel, operator_name
from smartc.passes.shared.base import Pass, PassResult


def raw(module: nn.Module, inputs: Any) -> TracedModel:
    """Capture a module without the passes that make it canonical."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capture, "run_stage", lambda stage, model: PassResult(model))
        return trace(module, inputs)


def operators(model: TracedModel) -> list[str]:
    """Return the operators of a model in order."""
    return [operator_name(node.target) for node in model.calls()]


def run_pure(step: Pass, model: TracedModel) -> PassResult:
    """Run a pass and check that it left its input alone."""
    before = str(model.graph)
    result = step.run(model)
    assert str(model.graph) == before
    assert result.modified == any(remark.changed for remark in result.remarks)
    return result
