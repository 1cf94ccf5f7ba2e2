"""Which array of a user's batch feeds which input of a model, and which holds the labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from smartc.core.errors import Phrase, UserError
from smartc.data.array_names import LABEL_NAMES, by_position, label_name
from smartc.data.arrays import Arrays
from smartc.data.labelled_file import special_kind, to_tensor
from smartc.frontend.capture import split_arguments
from smartc.ir.traced_model import TracedModel


def is_batch(data: Any, model: TracedModel) -> bool:
    """Return whether data are one batch, and not something that yields batches."""
    if isinstance(data, (torch.Tensor, np.ndarray, Mapping)):
        return True
    if not isinstance(data, tuple):
        return False
    arrays = sum(map(_is_array, pytree.tree_leaves(data)))
    named = len(data) == 2 and isinstance(data[0], Mapping)
    return named or arrays in (len(model.inputs), len(model.inputs) + 1)


def match_inputs(batch: Any, model: TracedModel, where: Phrase) -> Arrays:
    """Return a batch's arrays in the order of the model's inputs, with its labels.

    Args:
        batch: An array, a dict of arrays by the names of inputs, the arguments of a call in order, or
            one of these with one array more, which is the labels.
        model: What takes them.
        where: The place for errors.

    Raises:
        UserError: The number or the names of the arrays are not those of the inputs.
    """
    batch = _with_arrays(batch)
    if isinstance(batch, Mapping) and all(map(_is_array, batch.values())):
        return _named(batch, model, where)
    if _is_sequence(batch) and len(batch) == 2 and isinstance(batch[0], Mapping) and _is_array(batch[1]):
        return _named({**batch[0], LABEL_NAMES[0]: batch[1]}, model, where)
    leaves = [leaf for leaf in _in_call_order(batch, model) if _is_array(leaf)]
    expected = len(model.inputs)
    if len(leaves) not in (expected, expected + 1):
        held = f"{len(leaves)} arrays" if len(leaves) != 1 else "1 array"
        fact = f"it has {held} and the model takes {_listing(model)}"
        raise UserError(fact, where=where, fix="Give an array per input, and after them labels if there are any")
    names = [spec.name for spec in model.inputs]
    tensors = [_tensor(leaf, name, where) for leaf, name in zip(leaves, [*names, "labels"], strict=False)]
    return Arrays(tuple(tensors[:expected]), tensors[expected] if len(tensors) > expected else None)


def _named(arrays: Mapping[str, Any], model: TracedModel, where: Phrase) -> Arrays:
    """Match arrays by their names; where the model has one input, any name will do for it."""
    names = [spec.name for spec in model.inputs]
    if by_position(list(arrays)) and len(arrays) in (len(names), len(names) + 1):
        arrays = dict(zip([*names, LABEL_NAMES[0]], arrays.values(), strict=False))
    label = label_name(arrays, names)
    rest = [name for name in arrays if name != label]
    if set(rest) != set(names) and not len(rest) == len(names) == 1:
        there = ", ".join(map(str, list(arrays)[:8])) or "nothing"
        fact = f"it holds {there} and the model takes {_listing(model)}"
        fix = "Name the arrays after the model's inputs, the labels `labels`, and leave out the rest"
        raise UserError(fact, where=where, fix=fix)
    tensors = [_tensor(arrays[name], name, where) for name in (names if len(names) > 1 else rest)]
    return Arrays(tuple(tensors), None if label is None else _tensor(arrays[label], label, where))


def _in_call_order(batch: Any, model: TracedModel) -> list[Any]:
    """Return the leaves as the model's call flattens them, then labels; dicts inside may be in any order."""
    spec: pytree.TreeSpec = model.graph._codegen.pytree_info.in_spec  # type: ignore[attr-defined]
    splits: list[tuple[Any, tuple[Any, ...]]] = [(batch, ())]
    if _is_sequence(batch) and len(batch) > 1:
        splits += [(batch[:-1], (batch[-1],)), (batch[0], tuple(batch[1:]))]
    for arguments, labels in splits:
        try:
            leaves = [*spec.flatten_up_to(split_arguments(arguments)), *labels]
        except ValueError:
            continue
        if not any(isinstance(leaf, (tuple, list, Mapping)) for leaf in leaves):
            return leaves
    return pytree.tree_leaves(split_arguments(batch))


def _with_arrays(batch: Any) -> Any:
    """Return a batch in which lists of numbers, such as labels, are arrays."""
    if isinstance(batch, Mapping):
        return {name: _array(value) for name, value in batch.items()}
    return tuple(map(_array, batch)) if _is_sequence(batch) else batch


def _array(value: Any) -> Any:
    """Return a list of numbers or texts as an array, and anything else as it is."""
    plain = isinstance(value, (list, tuple)) and value and all(isinstance(x, (int, float, str)) for x in value)
    return np.asarray(value) if plain else value


def _is_array(leaf: Any) -> bool:
    """Return whether a leaf of a batch holds numbers for an input, or was meant to."""
    return isinstance(leaf, (torch.Tensor, np.ndarray))


def _is_sequence(batch: Any) -> bool:
    """Return whether a batch is a tuple or a list."""
    return isinstance(batch, (tuple, list))


def _tensor(value: Any, name: str, where: Phrase) -> torch.Tensor:
    """Return one array as a tensor in main memory."""
    try:
        tensor = to_tensor(value)
    except TypeError as error:
        raise UserError(f"{name} is {error}", where=where, fix="Store it as numbers") from error
    kind = special_kind(tensor)
    if kind is not None:
        raise UserError(f"{name} is {kind}", where=where, fix="Store it as plain numbers")
    return tensor.cpu()


def _listing(model: TracedModel) -> str:
    """Return the inputs of a model as text."""
    return ", ".join(map(str, model.inputs))
