"""How an exported program says its inputs and outputs are nested: only what needs nothing imported or looked up."""

from __future__ import annotations

import json
from typing import Any

from torch.utils import _pytree as pytree

# Containers that torch itself knows.  A class that a program's own code has registered is known once that
# code is imported, which a file cannot bring about.
_CONTAINERS = frozenset(
    """builtins.tuple builtins.list builtins.dict collections.OrderedDict collections.deque collections.namedtuple
    collections.defaultdict""".split()
)
_FACTORIES = frozenset("list dict set tuple int float str bool".split())
_DEEPEST, _MOST_NODES = 64, 100_000


def is_tree_spec(text: str) -> bool:
    """Return whether a serialised tree holds known containers alone, with plain data to describe them."""
    try:
        protocol, root = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return False
    return protocol == 1 and _is_tree(root)


def _is_tree(root: Any) -> bool:
    """Return whether every node of a tree is plain."""
    left, seen = [(root, 0)], 0
    while left:
        node, depth = left.pop()
        seen += 1
        if seen > _MOST_NODES or depth > _DEEPEST or not _is_node(node):
            return False
        left += [(child, depth + 1) for child in node["children_spec"]]
    return True


def _is_node(node: Any) -> bool:
    """Return whether a node is a leaf, or a known container described by plain data."""
    if not isinstance(node, dict) or node.keys() != {"type", "context", "children_spec"}:
        return False
    kind, context, children = node["type"], node["context"], node["children_spec"]
    if not isinstance(children, list):
        return False
    if kind is None:
        return context is None and not children
    if kind == "collections.defaultdict":
        return _is_defaultdict(context)
    if kind == "collections.namedtuple":
        return isinstance(context, str) and _registered(context)
    known = kind in _CONTAINERS or _registered(kind)
    return known and isinstance(context, str) and _is_plain_text(context)


def _registered(name: Any) -> bool:
    """Return whether a container of that name has been registered in this process."""
    return isinstance(name, str) and name in pytree.SERIALIZED_TYPE_TO_PYTHON_TYPE


def _is_defaultdict(context: Any) -> bool:
    """Return whether the factory of a defaultdict is a type of Python's own."""
    expected = {"default_factory_module", "default_factory_name", "dict_context"}
    return (
        isinstance(context, dict)
        and context.keys() == expected
        and context["default_factory_module"] == "builtins"
        and context["default_factory_name"] in _FACTORIES
        and _is_plain(context["dict_context"])
    )


def _is_plain_text(context: str) -> bool:
    """Return whether JSON holds no object: torch imports what an object names."""
    try:
        return _is_plain(json.loads(context))
    except (ValueError, RecursionError):
        return False


def _is_plain(value: Any, depth: int = 0) -> bool:
    """Return whether a value is a number, a text, nothing, or a list of these."""
    if isinstance(value, list):
        return depth < _DEEPEST and all(_is_plain(item, depth + 1) for item in value)
    return value is None or isinstance(value, (str, int, float, bool))
