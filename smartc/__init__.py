"""smartc compiles trained PyTorch models into smaller, faster ones for a named accelerator."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from smartc.core.version import __version__

if TYPE_CHECKING:
    from smartc.artifact.compiled import Compiled, load
    from smartc.core.errors import InternalError, SmartcError, UserError
    from smartc.frontend.capture import trace
    from smartc.ir.traced_model import TracedModel
    from smartc.learning.soft_top_k.soft_top_k import soft_top_k
    from smartc.learning.training.settings import Settings
    from smartc.pipeline import compile
    from smartc.preparation import Preparation, prepare


__all__ = [
    "Compiled",
    "InternalError",
    "Preparation",
    "Settings",
    "SmartcError",
    "TracedModel",
    "UserError",
    "__version__",
    "compile",
    "load",
    "prepare",
    "soft_top_k",
    "trace",
]

_HOME = {
    "Compiled": "smartc.artifact.compiled",
    "InternalError": "smartc.core.errors",
    "Preparation": "smartc.preparation",
    "Settings": "smartc.learning.training.settings",
    "SmartcError": "smartc.core.errors",
    "TracedModel": "smartc.ir.traced_model",
    "UserError": "smartc.core.errors",
    "compile": "smartc.pipeline",
    "load": "smartc.artifact.compiled",
    "prepare": "smartc.preparation",
    "soft_top_k": "smartc.learning.soft_top_k.soft_top_k",
    "trace": "smartc.frontend.capture",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for on first use, so that ``smartc --help`` need not wait for torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'smartc' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
