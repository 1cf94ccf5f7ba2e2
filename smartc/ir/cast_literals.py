"""Types that calls spell out: those of the model itself, and shorter ones, follow it to another type."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx


def cast_literals(node: fx.Node, own: torch.dtype, dtype: torch.dtype) -> None:
    """Let the types that a call spells out, and that it leaves to PyTorch's default, follow the model's.

    A type with fewer digits than the new one follows, too: all tensors of the model have the new one, and an
    operator takes no two.  What reads the bits of a tensor as another type stays.

    Args:
        node: A call, edited in place.
        own: The floating type of the model that the call was captured with.
        dtype: The type that the model shall have.
    """
    if node.target is torch.ops.aten.view.dtype:
        return
    node.args = tuple(_cast(value, own, dtype) for value in node.args)
    node.kwargs = {key: _cast(value, own, dtype) for key, value in node.kwargs.items()}
    if _takes_default_type(node, own):
        node.kwargs = {**node.kwargs, "dtype": dtype}


def _cast(value: Any, own: torch.dtype, dtype: torch.dtype) -> Any:
    """Return a literal in the new type if it is a type that follows."""
    return dtype if isinstance(value, torch.dtype) and follows(value, own, dtype) else value


def follows(kind: torch.dtype, own: torch.dtype, dtype: torch.dtype) -> bool:
    """Return whether what has a type has another once the model has it: the model's own type, and shorter ones."""
    return kind is own or has_fewer_digits(kind, dtype)


def coarsest_type(graph: fx.Graph, own: torch.dtype) -> torch.dtype:
    """Return the floating type with the fewest digits among those of a graph's values, and the model's own."""
    found = own
    for node in graph.nodes:
        kind = getattr(node.meta.get("value"), "dtype", own)
        found = kind if has_fewer_digits(kind, found) else found
    return found


def has_fewer_digits(dtype: torch.dtype, other: torch.dtype) -> bool:
    """Return whether a floating type carries fewer digits than another."""
    return dtype.is_floating_point and torch.finfo(dtype).eps > torch.finfo(other).eps


def _takes_default_type(node: fx.Node, own: torch.dtype) -> bool:
    """Return whether a call makes a tensor of the model's type from no other tensor, and does not say so."""
    schema = getattr(node.target, "_schema", None)
    value = node.meta.get("value")
    if schema is None or node.all_input_nodes or getattr(value, "dtype", None) is not own:
        return False
    places = [place for place, argument in enumerate(schema.arguments) if argument.name == "dtype"]
    return bool(places) and len(node.args) <= places[0] and node.kwargs.get("dtype") is None


def cast_value(value: Any, dtype: torch.dtype) -> Any:
    """Convert floating-point tensors and leave the rest alone."""
    return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value
