"""Add a tensor of the compiler's own to a model, under a name that nothing else has."""

from __future__ import annotations

import torch
from torch import fx, nn

from smartc.ir.traced_model import TracedModel, Value


def new_tensor(model: TracedModel, wanted: str, value: torch.Tensor) -> fx.Node:
    """Add a parameter or a buffer and return a node that reads it, at the graph's place of insertion.

    Args:
        model: What to add to.
        wanted: A dotted name; where it is taken, ``_folded`` and a number follow it.
        value: A parameter becomes one, another tensor a buffer.
    """
    holder, _, leaf = wanted.rpartition(".")
    module = _module(model.graph_module, holder)
    prefix = f"{holder}." if holder else ""
    name, count = leaf, 1
    while hasattr(module, name) or any(f"{other}.".startswith(f"{prefix}{name}.") for other in model.state_names):
        name, count = f"{leaf}_folded{count if count > 1 else ''}", count + 1
    if isinstance(value, nn.Parameter):
        module.register_parameter(name, value)
    else:
        module.register_buffer(name, value)
    node = model.graph.get_attr(prefix + name)
    node.meta["value"] = Value(tuple(value.shape), value.dtype)
    return node


def _module(root: nn.Module, path: str) -> nn.Module:
    """Return a submodule, an empty one where the graph holds none of that name."""
    for part in filter(None, path.split(".")):
        if not hasattr(root, part):
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    return root
