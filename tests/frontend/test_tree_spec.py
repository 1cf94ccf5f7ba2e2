"""Trees that torch writes for ordinary inputs and outputs are taken; what would be imported or looked up is not."""

from __future__ import annotations

import json
from collections import OrderedDict, defaultdict, deque
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree

from smartc.frontend.tree_spec import is_tree_spec

TENSOR = torch.zeros(1)


def spec(kind: Any, context: Any, children: Any = ()) -> str:
    """Return a tree of one container as torch writes it."""
    return json.dumps([1, {"type": kind, "context": context, "children_spec": list(children)}])


@pytest.mark.parametrize(
    "tree",
    [
        TENSOR,
        (TENSOR, [TENSOR, {"a": TENSOR, 3: None}]),
        OrderedDict(b=TENSOR, a=(TENSOR,)),
        deque([TENSOR], maxlen=4),
        defaultdict(list, {"x": [TENSOR]}),
    ],
)
def test_takes_what_torch_writes(tree: Any) -> None:
    assert is_tree_spec(pytree.treespec_dumps(pytree.tree_structure(tree)))


@pytest.mark.parametrize(
    "text",
    [
        spec("builtins.dict", '{"__enum__": true, "fqn": "evilmod:E", "name": "a"}'),
        spec("builtins.dict", '[{"__enum__": true, "fqn": "os:path", "name": "a"}]'),
        spec("builtins.dict", '["a", ["b", {"x": 1}]]'),
        spec(
            "collections.defaultdict",
            {"default_factory_module": "evilmod", "default_factory_name": "list", "dict_context": []},
        ),
        spec(
            "collections.defaultdict",
            {"default_factory_module": "builtins", "default_factory_name": "eval", "dict_context": []},
        ),
        spec("collections.namedtuple", "evilmod.Pair"),
        spec("evilmod.Pair", "[]"),
        spec("builtins.tuple", "not JSON"),
        spec("builtins.tuple", ["null"]),
        spec(None, "x"),
        spec("builtins.tuple", "null", [{"type": None}]),
        spec("builtins.tuple", "null", ["leaf"]),
        '[2, {"type": null, "context": null, "children_spec": []}]',
        "[" * 100_000,
        "null",
        "{}",
    ],
)
def test_refuses_the_rest(text: str) -> None:
    assert not is_tree_spec(text)
