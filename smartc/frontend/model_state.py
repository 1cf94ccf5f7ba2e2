"""From the content of a model file that is no exported program to a module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from smartc.core.errors import OWN_CODE_FAILURES, Argument, Phrase, UserError, first_line
from smartc.core.load_by_name import load_function
from smartc.frontend.stored_sizes import without_bytes
from smartc.frontend.wrapped_state import unwrapped
from smartc.ir.traced_model import Remark

# Where training loops put the weights in a checkpoint.
_NESTED_STATES = ("state_dict", "model_state_dict", "model")


def build_module(content: Any, file: Path, factory: str | None) -> tuple[nn.Module, tuple[Remark, ...]]:
    """Return the module that a file's content makes, and what the user should know of how it was loaded."""
    if isinstance(content, nn.Module):
        refuse_factory(factory, file, "a module")
        return content, ()
    state = _state(content, file)
    if factory is None:
        fix = ("Name what builds the module, as in ", Argument("factory", "package.module:factory"))
        raise UserError("it is a state_dict, which has no structure", where=str(file), fix=fix)
    where = Argument("factory", factory)
    module = made_by(factory, where)
    bare, told = unwrapped(state, module.state_dict().keys())
    _load_state(module, bare, (str(file), ", ", where))
    return module, (Remark(file.name, told),) if told else ()


def made_by(factory: str, where: Phrase) -> nn.Module:
    """Return the module that a class or function named ``package.module:name`` makes, called without arguments.

    Raises:
        UserError: There is none, it fails, or it makes something else.
    """
    try:
        module = load_function(factory, where)()
    except UserError:
        raise
    except OWN_CODE_FAILURES as error:
        fact = f"calling it fails: {type(error).__name__}: {first_line(error)}"
        raise UserError(fact, where=where, fix="It is called without arguments") from error
    if not isinstance(module, nn.Module):
        fact = f"it returns {type(module).__name__}"
        raise UserError(fact, where=where, fix="It must return a torch.nn.Module")
    return module


def _state(content: Any, file: Path) -> Mapping[str, Any]:
    """Return the state_dict, which a checkpoint may have under a key of its own."""
    if isinstance(content, Mapping):
        for candidate in (content, *(content.get(key) for key in _NESTED_STATES)):
            if isinstance(candidate, Mapping) and any(map(torch.is_tensor, candidate.values())):
                return _backed(candidate, file)
    fix = "Save the module's state_dict, or an exported program"
    raise UserError(f"it holds {type(content).__name__} without a model", where=str(file), fix=fix)


def _backed(state: Mapping[str, Any], file: Path) -> Mapping[str, Any]:
    """Return a state_dict whose tensors all have their bytes in the file."""
    bare = next((name for name, value in state.items() if without_bytes(value)), None)
    if bare is not None:
        fact = f"{bare} is sparse, nested, on the meta device or an expanded view, so that its elements are not stored"
        raise UserError(fact, where=str(file), fix="Save it as an ordinary tensor, by .contiguous()")
    return state


def _load_state(module: nn.Module, state: Mapping[str, Any], where: Phrase) -> None:
    """Load strictly, but for names that are tied to a name that is there."""
    fix = "Use the factory that the weights were trained with"
    try:
        missing, unexpected = module.load_state_dict(state, strict=False)
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UserError(lines[min(1, len(lines) - 1)], where=where, fix=fix) from error
    own = module.state_dict(keep_vars=True)
    loaded = {id(tensor) for name, tensor in own.items() if name not in missing}
    absent = [name for name in missing if id(own.get(name)) not in loaded]
    if absent or unexpected:
        parts = (_keys(absent, "missing"), _keys(unexpected, "not expected"))
        raise UserError("; ".join(filter(None, parts)), where=where, fix=fix)


def _keys(names: Sequence[str], what: str) -> str:
    """Return a text with the number of keys of a kind and the first of them."""
    if not names:
        return ""
    rest = ", ..." if len(names) > 3 else ""
    return f"{len(names)} keys are {what} ({', '.join(names[:3])}{rest})"


def refuse_factory(factory: str | None, file: Path, what: str) -> None:
    """Raise if a factory is given for a file that has a structure of its own."""
    if factory is not None:
        fact = f"it is {what}, which brings its own structure"
        raise UserError(fact, where=str(file), fix=("Leave ", Argument("factory", factory), " out"))
