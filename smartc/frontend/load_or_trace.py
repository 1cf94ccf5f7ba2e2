"""The capture stage: from whatever the user gave to a TracedModel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from smartc.core.errors import UserError
from smartc.frontend.capture import trace
from smartc.frontend.model_file import load_model
from smartc.ir.traced_model import TracedModel


def load_or_trace(model: Any, example_inputs: Any) -> TracedModel:
    """Return the TracedModel of whatever the user gave.

    Raises:
        UserError: It is no model, or its inputs are missing.
    """
    if isinstance(model, TracedModel):
        return model
    if isinstance(model, (str, Path)):
        return load_model(model)
    if not isinstance(model, nn.Module):
        fix = "Give an nn.Module or a file's path"
        raise UserError(f"a {type(model).__name__} is no model", where="smartc.compile", fix=fix)
    if example_inputs is None:
        fix = "Give example_inputs, a batch of at least one"
        raise UserError("example inputs are missing", where=type(model).__name__, fix=fix)
    return trace(model, example_inputs)
