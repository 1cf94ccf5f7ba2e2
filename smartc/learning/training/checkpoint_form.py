"""What a checkpoint must hold to be the state of a training; all of it is checked before any of it is taken over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from smartc.core.errors import UserError
from smartc.core.records import decode, encode
from smartc.learning.training.mask_search import MaskSearch, SearchState

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Facts:
    """What a checkpoint says beside its tensors.

    Attributes:
        done: Steps done.
        fractional: As ``MaskSearch.fractional``.
        curve: As ``MaskSearch.curve``.
        tensors: How many tensors there are.
    """

    done: int
    fractional: float
    curve: tuple[SearchState, ...]
    tensors: int


def facts_of(search: MaskSearch, tensors: Tensors) -> dict[str, str]:
    """Return the facts of a search, each as text."""
    facts = Facts(search.done, search.fractional, tuple(search.curve), len(tensors))
    return {name: json.dumps(value) for name, value in encode(facts).items()}


def read_facts(texts: Mapping[str, str], search: MaskSearch, where: str) -> Facts:
    """Return the facts that a checkpoint of a search holds.

    Raises:
        UserError: One is missing, of another form, or cannot be.
    """
    try:
        content = {name: json.loads(texts[name]) for name in Facts.__dataclass_fields__}
    except KeyError as error:
        raise no_checkpoint(f"it does not say {error.args[0]}", where) from error
    except (ValueError, RecursionError) as error:
        raise no_checkpoint("what it says is not JSON", where) from error
    try:
        facts = decode(Facts, content, where)
    except UserError as error:
        raise no_checkpoint(error.fact, where) from error
    if not (0 <= facts.done <= search.steps and 0 <= facts.fractional <= 1):
        raise no_checkpoint("its number of steps or share of masks cannot be", where)
    return facts


def check_tensors(found: Tensors, expected: Tensors, optimizer: torch.optim.Optimizer, count: int) -> None:
    """Raise unless the tensors of a checkpoint are those of a training.

    Args:
        found: What the checkpoint holds.
        expected: What the training has when it begins.
        optimizer: What it trains with, whose own tensors come and go.
        count: How many tensors were written.

    Raises:
        ValueError: One is missing, too many, or of another shape or type; the text names it.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    entries: dict[str, set[str]] = {}
    for name, tensor in found.items():
        if name.startswith("optimizer."):
            number, state = _check_optimizer(name, tensor, parameters)
            entries.setdefault(number, set()).add(state)
    if len({frozenset(states) for states in entries.values()}) > 1:
        raise ValueError("its optimizer lacks a tensor")
    for name, tensor in expected.items():
        there = found.get(name)
        if there is None:
            raise ValueError(f"it lacks {name}")
        if there.shape != tensor.shape or there.dtype != tensor.dtype:
            raise ValueError(f"{name} is {_described(there)} and not {_described(tensor)}")
    foreign = [name for name in found if name not in expected and not name.startswith("optimizer.")]
    if foreign:
        raise ValueError(f"it holds {foreign[0]}, which no such training has")
    if len(found) != count:
        raise ValueError(f"it holds {len(found)} tensors and not {count}")


def no_checkpoint(what: str, where: str) -> UserError:
    """Return the error for a file that is no state of this training."""
    return UserError(f"is no checkpoint of this training: {what}", where=where, fix="Delete it and start anew")


def _check_optimizer(name: str, tensor: torch.Tensor, parameters: list[Any]) -> tuple[str, str]:
    """Return the number of the parameter and the name of one of an optimizer's states, checked."""
    number, _, state = name.removeprefix("optimizer.").partition(".")
    if not (number.isascii() and number.isdigit() and len(number) < 10 and int(number) < len(parameters)):
        raise ValueError(f"{name} belongs to no parameter")
    parameter = parameters[int(number)]
    if tensor.shape != parameter.shape and tensor.numel() != 1:
        raise ValueError(f"{name} is {_described(tensor)} and not {_described(parameter)}")
    return number, state


def _described(tensor: torch.Tensor) -> str:
    """Return for example ``float32 16x3x3x3``."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {'x'.join(map(str, tensor.shape)) or 'scalar'}"
