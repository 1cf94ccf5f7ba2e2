"""Outputs that are no tensors, such as the cache of a language model, are left out while a module is captured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from smartc.ir.output_names import path_name
from smartc.ir.traced_model import Remark

# What torch.export returns as it is.
_PLAIN = (torch.Tensor, int, float, bool, str, torch.SymInt, torch.SymFloat, torch.SymBool, type(None))


def opaque_outputs(outputs: Any, name: str) -> tuple[Remark, ...]:
    """Return a remark for each output that torch.export cannot return; none where there is no other output.

    Args:
        outputs: What a module returned.
        name: What to call the module.
    """
    paths, _ = pytree.tree_flatten_with_path(outputs)
    opaque = [(path, leaf) for path, leaf in paths if not isinstance(leaf, _PLAIN)]
    if not any(isinstance(leaf, torch.Tensor) for _, leaf in paths):
        return ()
    return tuple(Remark(name, _told(path, leaf)) for path, leaf in opaque)


@contextmanager
def without_opaque_outputs(module: nn.Module, present: bool) -> Iterator[None]:
    """Let a module return None for what torch.export cannot return, for the time of a block."""
    if not present:
        yield
        return
    hook = module.register_forward_hook(lambda module, inputs, outputs: pytree.tree_map(_plain, outputs))
    try:
        yield
    finally:
        hook.remove()


def _plain(leaf: Any) -> Any:
    """Return a leaf that torch.export can return, or None."""
    return leaf if isinstance(leaf, _PLAIN) else None


def _told(path: Any, leaf: Any) -> str:
    """Return the remark on one output."""
    kind = type(leaf).__name__
    text = f"output {path_name(path)} is left out: torch.export does not know the type {kind}"
    spared = "; a model with use_cache=False makes none" if kind.endswith("Cache") else ""
    return f"{text}{spared}"
