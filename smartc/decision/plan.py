"""The plan: what is kept of every tensor, by the user's names, and what it was made for."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from smartc.analysis.channels.channel_groups import ChannelGroups, surviving
from smartc.analysis.channels.labels import IntArray
from smartc.core.brief import brief
from smartc.core.version import __version__
from smartc.decision.decision import Decision
from smartc.decision.job import CompileJob
from smartc.decision.plan_form import GroupDecision, plan_form, read_plan
from smartc.decision.result_cost import result_cost
from smartc.ir.traced_model import TracedModel, layer_name
from smartc.packing.pack import PackedModel

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Plan:
    """What was decided; enough to rebuild the masked original from the user's ``state_dict``.

    Attributes:
        model: Name and sha256 of what was compiled.
        target: The target in full.
        budget: Kind, what was asked, what was reached.
        learner: Where the scores came from.
        groups: The decision for each channel group.
        tensors: Per tensor that shrinks or is reordered, its old shape and the kept indices of each axis,
            in the order of the compiled model.  Zero, in every axis that ``reads``, what is not kept: that
            is the masked original.
        granularity: What a mask removed at a time.
        masks: Per weight that lost blocks or single weights, how these lie in it and which stay: a bit
            for each, the first the highest of its byte, in base64.
        constants: Per tensor that the compiler computed once and stored, its shape, the names of what it was computed
            from, and what is kept of it, as in ``tensors``: zeros of those that it was computed from cannot say it.
        norms: The norms that lose channels. They see only what stays, and in the masked original all channels, so the
            compiled model is near that but not equal to it.
    """

    model: Mapping[str, str | None]
    target: Mapping[str, Any]
    budget: Mapping[str, str]
    learner: str
    groups: tuple[GroupDecision, ...]
    tensors: Mapping[str, Any]
    granularity: str = "channel"
    masks: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    norms: tuple[str, ...] = ()
    smartc: str = field(default=__version__)

    def __repr__(self) -> str:
        """Return the headline, and what the masks were."""
        return f"Plan({self.headline}, by {self.learner} and {self.granularity})"

    @property
    def headline(self) -> str:
        """Return in one line the model, the target, and what was asked and reached."""
        budget, target = self.budget, self.target.get("target", {})
        goal = f"{budget['kind']} {brief(budget['asked'], 12)} asked, {brief(budget['reached'], 12)} reached"
        names = f"{brief(self.model.get('name'))} on {brief(target.get('name'), 20)}"
        return f"{names}: {goal}"

    def to_dict(self) -> dict[str, Any]:
        """Return what plan.json holds."""
        return {
            "schema": 1,
            "smartc": self.smartc,
            "model": dict(self.model),
            "target": dict(self.target),
            "budget": dict(self.budget),
            "learner": self.learner,
            "granularity": self.granularity,
            "groups": [vars(group) for group in self.groups],
            "tensors": {name: dict(entry) for name, entry in self.tensors.items()},
            "masks": {name: dict(entry) for name, entry in self.masks.items()},
            "constants": {name: dict(entry) for name, entry in self.constants.items()},
            **({"norms": list(self.norms)} if self.norms else {}),
        }

    @classmethod
    def from_dict(cls, content: Any, where: str = "plan.json") -> Plan:
        """Return the plan that plan.json holds.

        Raises:
            UserError: A key is missing, a value has another type, or the schema is another one.
        """
        form = plan_form(content, where)
        return cls(
            model=form.model,
            target=form.target,
            budget=form.budget,
            learner=form.learner,
            groups=form.groups,
            tensors=content["tensors"],
            granularity=form.granularity,
            masks=content.get("masks", {}),
            constants=content.get("constants", {}),
            norms=form.norms,
            smartc=form.smartc,
        )

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read ``plan.json``.

        Raises:
            UserError: The file cannot be read or is no plan.
        """
        return cls.from_dict(read_plan(path), str(path))

    @property
    def sha256(self) -> str:
        """Return the hash of the plan's content."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def make_plan(job: CompileJob, decision: Decision, smaller: PackedModel, *, hashed: bool = True) -> Plan:
    """Return the plan: what was decided, and what the smaller model came to.

    Args:
        job: What is compiled.
        decision: What is kept.
        smaller: The model without the rest.
        hashed: Whether to name the model by its hash, which takes a pass over all of its weights.
    """
    search, choice, budget = decision.options, decision.choice, job.budget
    kept = kept_indices(decision.model, search.groups, decision.keep, smaller.moved)
    decisions = tuple(
        GroupDecision(group.name, len(group), int(count), group.weight, reason)
        for group, count, reason in zip(search.groups.groups, choice.kept, choice.reasons, strict=True)
    )
    return Plan(
        model={"name": job.original.name, "sha256": traced_model_hash(job.captured) if hashed else None},
        target=job.target.to_dict(),
        budget={"kind": budget.kind, "asked": budget.asked, "reached": reached(job, decision, smaller.model)},
        learner=job.learner,
        groups=decisions,
        tensors={name: entry for name, entry in kept.items() if name not in decision.model.constants},
        constants=_constants(decision.model, kept),
        granularity=str(job.granularity),
        masks=kept_masks(decision),
        norms=tuple(layer_name(norm.node) for norm in search.groups.changed_norms(decision.keep)),
    )


def kept_masks(decision: Decision) -> dict[str, Any]:
    """Return for every masked weight how its units lie in it and which of them stay."""
    units, kept = decision.units, decision.kept
    if units is None or kept is None:
        return {}
    entries = {}
    for weight in units.weights:
        part = kept[weight.part]
        if not part.all():
            bits = base64.b64encode(np.packbits(part).tobytes()).decode("ascii")
            entries[weight.name] = {**weight.layout.facts(), "count": len(part), "kept": bits}
    return entries


def reached(job: CompileJob, decision: Decision, smaller: TracedModel) -> str:
    """Return what a budget came to, in its own unit."""
    budget, search, choice = job.budget, decision.options, decision.choice
    if budget.kind == "sparsity":
        if decision.kept is not None:
            return f"{1 - float(decision.kept.mean()):.3f}" if len(decision.kept) else "0"
        total = int(search.weights @ search.full) if len(search.full) else 0
        return f"{1 - int(search.weights @ choice.kept) / total:.3f}" if total else "0"
    return budget.stated(result_cost(job, smaller), result_cost(job, job.original, job.layers))


def kept_indices(
    model: TracedModel, groups: ChannelGroups, keep: BoolArray, moved: Mapping[str, Mapping[int, IntArray]]
) -> dict[str, Any]:
    """Return, by name, the old shape and the kept indices of every tensor of the user's that is not as it was.

    Constants that the compiler stored are among them.

    Args:
        model: Before.
        groups: Its channels.
        keep: Which of them stay.
        moved: For each tensor the axes whose kept indices have another order, as ``PackedModel`` has it.
    """
    tensors: dict[str, Any] = {}
    for axis in groups.axes:
        kept = np.flatnonzero(surviving(axis.units, keep))
        order = moved.get(axis.name, {}).get(axis.axis)
        if len(kept) == len(axis.units) and order is None:
            continue
        entry = {"axis": axis.axis, "role": axis.role, "kept": (kept if order is None else kept[order]).tolist()}
        shape = list(model.tensor(axis.name).shape)
        for name in model.names_of(axis.name):
            if name in model.state_names or name in model.constants:
                tensors.setdefault(name, {"shape": shape, "axes": []})["axes"].append(entry)
    return tensors


def _constants(model: TracedModel, kept: Mapping[str, Any]) -> dict[str, Any]:
    """Return the shape, the sources and the kept indices of every constant that the compiler stored."""
    return {
        name: {"computed_from": list(sources), **kept.get(name, {"shape": list(model.tensor(name).shape), "axes": []})}
        for name, sources in model.constants.items()
    }


def traced_model_hash(model: TracedModel) -> str:
    """Return a hash of a model's graph and tensors."""
    digest = hashlib.sha256(model.graph_module.code.encode())
    state = {**dict(model.graph_module.named_parameters()), **dict(model.graph_module.named_buffers())}
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
