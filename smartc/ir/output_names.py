"""Names for the outputs of a graph, from the structure that the user's model returns."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import fx
from torch.utils import _pytree as pytree

# Where each kind of step to a leaf of a structure keeps its key.
FIELDS = {pytree.SequenceKey: "idx", pytree.MappingKey: "key", pytree.GetAttrKey: "name"}


def output_names(graph: fx.Graph, inputs: Collection[str]) -> tuple[str, ...]:
    """Return a name for each output that is a tensor: the keys and positions that lead to it.

    Args:
        graph: A captured graph.
        inputs: The names of its inputs, which no output can have: ONNX has one name for one value.
    """
    structure: pytree.TreeSpec = graph._codegen.pytree_info.out_spec  # type: ignore[attr-defined]
    (leaves,) = graph.output_node().args
    found = structure.unflatten(list(leaves) if isinstance(leaves, (tuple, list)) else [leaves])
    paths, _ = pytree.tree_flatten_with_path(found)
    names = [path_name(path) for path, leaf in paths if isinstance(leaf, fx.Node) and _is_tensor(leaf)]
    names = [f"{name}_output" if name in inputs else name for name in names]
    return tuple(name if names.index(name) == place else f"{name}_{place}" for place, name in enumerate(names))


def _is_tensor(node: fx.Node) -> bool:
    """Return whether a node gives a tensor, not the size of one."""
    return not isinstance(node.meta.get("value"), (int, float))


def path_name(path: tuple[Any, ...]) -> str:
    """Return the keys and positions of an output as one name: ``logits``, ``output_0``, ``boxes_1``."""
    parts = [str(getattr(key, FIELDS[type(key)])) if type(key) in FIELDS else str(key).strip(".[]'") for key in path]
    if not path or isinstance(path[0], pytree.SequenceKey):
        parts.insert(0, "output")
    return "_".join(parts if path else ("output", "0"))
