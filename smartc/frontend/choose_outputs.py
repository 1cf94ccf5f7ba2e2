"""Compile some of the outputs of a model alone, without what computes the others."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from torch import fx
from torch.utils import _pytree as pytree

from smartc.core.errors import Argument, UserError
from smartc.ir.output_names import path_name
from smartc.ir.traced_model import Remark, TracedModel
from smartc.results.formats import listing

_NAMES_SHOWN = 8


def choose_outputs(model: TracedModel, wanted: int | str | Sequence[int | str] | None) -> TracedModel:
    """Return a model that computes the wanted outputs alone; itself where none are named.

    It returns what it did, in the same structure, with None in place of the others.

    Args:
        model: The model as it was captured.
        wanted: Outputs, by the position in what the model returns, counted from 0, or by name; the name of a list or
            a dict of outputs stands for all of them.

    Raises:
        UserError: There is no such output.
    """
    if wanted is None:
        return model
    chosen: set[int] = set()
    names, places = _leaves(model)
    for one in (wanted,) if isinstance(wanted, (int, str)) else wanted:
        found = _named(str(one), names, places)
        if not found:
            fact = f"the model has no such output; it has {listing(names, _NAMES_SHOWN)}"
            fix = "Name one of these, or give its position, counted from 0"
            raise UserError(fact, where=Argument("outputs", (str(one),)), fix=fix)
        chosen |= found
    left_out = [name for place, name in enumerate(names) if place not in chosen]
    if not left_out:
        return model
    text = f"left out of the outputs, with all that they alone need: {listing(left_out, _NAMES_SHOWN)}"
    fewer = _with_outputs(model, chosen)
    return replace(fewer, outputs=(), remarks=(*model.remarks, Remark(model.name, text)))


def _leaves(model: TracedModel) -> tuple[list[str], list[int]]:
    """Return the name of every output, and its position or that of the structure that it is part of."""
    structure = _structure(model)
    paths, _ = pytree.tree_flatten_with_path(structure.unflatten(list(range(structure.num_leaves))))
    names = [path_name(path) for path, _ in paths]
    sizes = [part.num_leaves for part in structure.children()] or [1]
    return names, [place for place, size in enumerate(sizes) for _ in range(size)]


def _structure(model: TracedModel) -> pytree.TreeSpec:
    """Return the tree of the outputs."""
    structure: pytree.TreeSpec = model.graph._codegen.pytree_info.out_spec  # type: ignore[attr-defined]
    return structure


def _named(wanted: str, names: Sequence[str], places: Sequence[int]) -> set[int]:
    """Return the outputs that a name or a position stands for."""
    found = {place for place, name in enumerate(names) if name == wanted or name.startswith(f"{wanted}_")}
    if not found and wanted.isdecimal():
        found = {index for index, place in enumerate(places) if place == int(wanted)}
    return found


def _with_outputs(model: TracedModel, chosen: Collection[int]) -> TracedModel:
    """Return a model with some of its outputs."""
    fewer = model.copy()
    output = fewer.graph.output_node()
    leaves = output.args[0] if isinstance(output.args[0], (list, tuple)) else [output.args[0]]
    kept, structure = _pruned(_structure(model), list(enumerate(leaves)), chosen)
    output.args = (kept,)
    info = model.graph._codegen.pytree_info._replace(out_spec=structure)  # type: ignore[attr-defined]
    fewer.graph.set_codegen(fx.graph._PyTreeCodeGen(info))
    return fewer.cleaned()


def _pruned(
    structure: pytree.TreeSpec, leaves: Sequence[tuple[int, Any]], chosen: Collection[int]
) -> tuple[list[Any], pytree.TreeSpec]:
    """Return the leaves that stay and their structure; a part of it without any is None."""
    if not any(place in chosen for place, _ in leaves):
        return [None], pytree.treespec_leaf()
    if structure.is_leaf():
        return [leaf for _, leaf in leaves], structure
    kept: list[Any] = []
    parts: list[pytree.TreeSpec] = []
    start = 0
    for part in structure.children():
        found, smaller = _pruned(part, leaves[start : start + part.num_leaves], chosen)
        kept, start = [*kept, *found], start + part.num_leaves
        parts.append(smaller)
    return kept, pytree.TreeSpec(structure.type, structure.context, parts)
