"""The plan: what is kept of every tensor, by the user's names, and what it was made for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from smartc import __version__
from smartc.errors import UserError
from smartc.model import TracedModel
from smartc.passes.channel_groups import ChannelGroups, surviving

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class GroupDecision:
    """How many of a group's channels stay, and why."""

    name: str
    channels: int
    kept: int
    coupled: int
    reason: str


@dataclass(frozen=True)
class Plan:
    """What was decided; enough to rebuild the masked original from the user's ``state_dict``.

    Attributes:
        model: Name and sha256 of what was compiled.
        target: The target in full.
        budget: Kind, what was asked, what was reached.
        learner: Where the scores came from.
        groups: The decision for each channel group.
        tensors: Per tensor that shrinks, its old shape and the kept indices of each axis.  Zero, in
            every axis that ``reads``, what is not kept: that is the masked original.
    """

    model: Mapping[str, str | None]
    target: Mapping[str, Any]
    budget: Mapping[str, str]
    learner: str
    groups: tuple[GroupDecision, ...]
    tensors: Mapping[str, Any]
    smartc: str = field(default=__version__)

    def to_dict(self) -> dict[str, Any]:
        """Return what plan.json holds."""
        return {
            "schema": 1,
            "smartc": self.smartc,
            "model": dict(self.model),
            "target": dict(self.target),
            "budget": dict(self.budget),
            "learner": self.learner,
            "granularity": "channel",
            "groups": [vars(group) for group in self.groups],
            "tensors": {name: dict(entry) for name, entry in self.tensors.items()},
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], where: str = "plan.json") -> Plan:
        """Return the plan that plan.json holds.

        Raises:
            UserError: A key is missing or the schema is another one.
        """
        try:
            if content["schema"] != 1:
                raise UserError(f"schema {content['schema']}, not 1", where=where, fix="Use the smartc that wrote it")
            return cls(
                model=content["model"],
                target=content["target"],
                budget=content["budget"],
                learner=content["learner"],
                groups=tuple(GroupDecision(**group) for group in content["groups"]),
                tensors=content["tensors"],
                smartc=content["smartc"],
            )
        except (KeyError, TypeError) as error:
            raise UserError(f"not a plan: {error}", where=where, fix="Compile the model again") from error

    @property
    def sha256(self) -> str:
        """Return the hash of the plan's content."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def kept_indices(model: TracedModel, groups: ChannelGroups, keep: BoolArray) -> dict[str, Any]:
    """Return, by the user's names, the old shape and the kept indices of every tensor that shrinks."""
    tensors: dict[str, Any] = {}
    for axis in groups.axes:
        alive = surviving(axis.units, keep)
        if alive.all():
            continue
        entry = {"axis": axis.axis, "role": axis.role, "kept": np.flatnonzero(alive).tolist()}
        shape = list(model.tensor(axis.name).shape)
        for name in model.names_of(axis.name):
            if name in model.state_names:
                tensors.setdefault(name, {"shape": shape, "axes": []})["axes"].append(entry)
    return tensors


def model_hash(model: TracedModel) -> str:
    """Return a hash of a model's graph and tensors."""
    digest = hashlib.sha256(model.graph_module.code.encode())
    state = {**dict(model.graph_module.named_parameters()), **dict(model.graph_module.named_buffers())}
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
