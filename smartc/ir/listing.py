"""A captured model as text: one line per call, with shapes, types and the user's layer names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import fx

from smartc.ir.traced_model import BATCH_PRIME, TracedModel, Value, layer_name, operator_name, value_of

# Results stand left, types right of them, in columns where they are not longer.
_CALL_WIDTH = 72


def listing(model: TracedModel) -> str:
    """Return the graph of a model as text.

    Each line reads ``%name = operator(arguments)``, then type and shape with ``N`` for the batch, and the
    user's name of the layer.
    """
    lines = [*_inputs(model), *(_line(node) for node in model.graph.nodes)]
    return "\n".join(lines) + "\n"


def _inputs(model: TracedModel) -> Iterator[str]:
    """Yield the head of a listing: the model's name and its inputs."""
    yield f"model {model.name}"
    for spec in model.inputs:
        yield f"input {spec}"
    yield ""


def _line(node: fx.Node) -> str:
    """Return the line of one node."""
    call = f"%{node.name} = {_call(node)}" if node.op != "output" else f"return {_text(node.args[0])}"
    kind = _kind(value_of(node))
    layer = layer_name(node) if node.op == "call_function" else ""
    tail = "  ".join(part for part in (kind, f"# {layer}" if layer else "") if part)
    return f"{call:{_CALL_WIDTH}}  {tail}".rstrip()


def _call(node: fx.Node) -> str:
    """Return the text of a node's computation."""
    if node.op == "placeholder":
        return "input"
    if node.op == "get_attr":
        return f"tensor {node.target}"
    arguments = [_text(value) for value in node.args]
    arguments += [f"{name}={_text(value)}" for name, value in node.kwargs.items()]
    name = str(node.target) if node.op == "call_module" else operator_name(node.target)
    return f"{name}({', '.join(arguments)})"


def _text(value: Any) -> str:
    """Return an argument as text."""
    if isinstance(value, fx.Node):
        return f"%{value.name}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_text(part)}" for key, part in value.items()) + "}"
    return str(value).removeprefix("torch.")


def _kind(value: Any) -> str:
    """Return type and shape of a value; those of a tuple's parts side by side."""
    if isinstance(value, (list, tuple)):
        return ", ".join(filter(None, map(_kind, value)))
    if not isinstance(value, Value):
        return ""
    sizes = (_size(size, axis in value.computed) for axis, size in enumerate(value.shape))
    return f"{str(value.dtype).removeprefix('torch.')}[{', '.join(sizes)}]"


def _size(size: int, computed: bool) -> str:
    """Return a size, in terms of the batch where it depends on that."""
    if not computed or size % BATCH_PRIME:
        return str(size)
    return "N" if size == BATCH_PRIME else f"{size // BATCH_PRIME}N"
