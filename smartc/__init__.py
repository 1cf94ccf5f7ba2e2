"""smartc compiles trained PyTorch models into smaller, faster ones for a named accelerator."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from smartc.core.version import __version__

if TYPE_CHECKING:
    from smartc.artifact.compiled import Compiled, load
    from smartc.compile import compile
    from smartc.core.errors import InternalError, SmartcError, UserError
    from smartc.frontend.capture import trace
    from smartc.ir.traced_model import TracedModel
    from smartc.learning.soft_top_k.soft_top_k import soft_top_k
    from smartc.learning.training.settings import Settings
    from smartc.prepare import Preparation, prepare
    from smartc.resizing.weights_file import resized

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
    "resized",
    "soft_top_k",
    "trace",
]

_HOME = {
    "Compiled": "smartc.artifact.compiled",
    "InternalError": "smartc.core.errors",
    "Preparation": "smartc.prepare",
    "Settings": "smartc.learning.training.settings",
    "SmartcError": "smartc.core.errors",
    "TracedModel": "smartc.ir.traced_model",
    "UserError": "smartc.core.errors",
    "compile": "smartc.compile",
    "load": "smartc.artifact.compiled",
    "prepare": "smartc.prepare",
    "resized": "smartc.resizing.weights_file",
    "soft_top_k": "smartc.learning.soft_top_k.soft_top_k",
    "trace": "smartc.frontend.capture",
}

# In a clone, passes/ and targets/ lie beside this folder; an installation has them inside it.
if not (Path(__file__).parent / "passes").exists():
    __path__.append(str(Path(__file__).parents[1]))


class _Package(ModuleType):
    """The package: ``smartc.compile`` and ``smartc.prepare`` are the functions, whoever imports their modules."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, but for a module of the name of a public function, as an import does."""
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    """Import what is asked for on first use, so that the command line need not wait for torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'smartc' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """Return the public names, for completion."""
    return __all__
