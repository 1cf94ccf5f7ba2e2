"""The form of plan.json, checked before anything in it is believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smartc.core.brief import brief
from smartc.core.errors import UserError
from smartc.core.records import decode
from smartc.core.regular_file import read_json

SCHEMA = 1
_FIX = "Compile the model again"


@dataclass(frozen=True)
class GroupDecision:
    """How many of a group's channels stay, and why."""

    name: str
    channels: int
    kept: int
    coupled: int
    reason: str


@dataclass(frozen=True)
class KeptAxis:
    """What is kept of one axis of a tensor."""

    axis: int
    role: str
    kept: tuple[int, ...]


@dataclass(frozen=True)
class KeptTensor:
    """The old shape of a tensor, the axes that shrink or are reordered, and what a constant was computed from."""

    shape: tuple[int, ...]
    axes: tuple[KeptAxis, ...]
    computed_from: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlanForm:
    """The keys of plan.json and their types."""

    model: Mapping[str, str | None]
    target: Mapping[str, Any]
    budget: Mapping[str, str]
    learner: str
    groups: tuple[GroupDecision, ...]
    tensors: Mapping[str, KeptTensor]
    granularity: str
    smartc: str
    masks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    constants: Mapping[str, KeptTensor] = field(default_factory=dict)
    norms: tuple[str, ...] = ()


def plan_form(content: object, where: str) -> PlanForm:
    """Return what plan.json holds, in its types.

    Raises:
        UserError: A key is missing, a value has another type, an index lies outside its tensor, or the
            schema is another one.
    """
    schema = content.get("schema", SCHEMA) if isinstance(content, dict) else SCHEMA
    if schema != SCHEMA:
        raise UserError(f"schema {brief(schema)}, not {SCHEMA}", where=where, fix="Use the smartc that wrote it")
    form = decode(PlanForm, content, where)
    kept = [(f"tensors.{name}", tensor) for name, tensor in form.tensors.items()]
    kept += [(f"constants.{name}", tensor) for name, tensor in form.constants.items()]
    for name, tensor in kept:
        if not all(_fits(axis, tensor.shape) for axis in tensor.axes):
            fact = f"{name} keeps what lies outside of its shape"
            raise UserError(fact, where=where, fix="Restore the file, or compile again")
    return form


def read_plan(path: str | Path) -> dict[str, Any]:
    """Return the checked content of plan.json.

    Raises:
        UserError: The file cannot be read or is no plan.
    """
    try:
        content: dict[str, Any] = read_json(path, _FIX)
    except OSError as error:
        raise UserError(f"it cannot be read ({error.strerror})", where=str(path), fix=_FIX) from error
    plan_form(content, str(path))
    return content


def _fits(axis: KeptAxis, shape: tuple[int, ...]) -> bool:
    """Return whether an axis and its indices are those of a tensor of this shape."""
    return 0 <= axis.axis < len(shape) and all(0 <= index < shape[axis.axis] for index in axis.kept)
