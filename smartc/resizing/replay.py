"""A plan replayed on the tensors of a module: what becomes of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from smartc.core.errors import UserError
from smartc.decision.plan import Plan
from smartc.decision.plan_form import KeptTensor, plan_form
from smartc.ir.traced_model import TracedModel

_OTHER_CLASS = "Name the class that was compiled, with the arguments that it had"


@dataclass(frozen=True)
class Cut:
    """One axis of a tensor that loses indices.

    Attributes:
        tensor: The tensor's name.
        axis: Which axis.
        old: Its size before.
        new: Its size afterwards.
        role: Whether its indices own channels, read them, or follow.
    """

    tensor: str
    axis: int
    old: int
    new: int
    role: str


@dataclass(frozen=True, eq=False)
class Replayed:
    """What a plan makes of a module's tensors.

    Attributes:
        tensors: By the names of the module's ``state_dict``; tied ones are one object.
        reference: The compiled model with these tensors.
        unread: The names of those that the compiled model does not read, which come from the module.
    """

    tensors: Mapping[str, torch.Tensor]
    reference: TracedModel
    unread: tuple[str, ...]


def state_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors of a module's ``state_dict``, those that are tied as one object."""
    return {name: one for name, one in module.state_dict(keep_vars=True).items() if isinstance(one, torch.Tensor)}


def cuts_of(plan: Plan) -> tuple[Cut, ...]:
    """Return every axis that a plan makes shorter."""
    cuts = (
        Cut(name, one.axis, tensor.shape[one.axis], len(one.kept), one.role)
        for name, tensor in _entries(plan).items()
        for one in tensor.axes
    )
    return tuple(cut for cut in cuts if cut.new < cut.old)


def replayed(module: nn.Module, model: TracedModel, plan: Plan, own_weights: bool) -> Replayed:
    """Return what a plan makes of a module's tensors.

    Args:
        module: Has the tensors of the original.
        model: The compiled model.
        plan: How that was made.
        own_weights: Whether the module's tensors are cut; else those of the compiled model are taken, which may have
            been trained since.

    Raises:
        UserError: The module is not what was compiled.
    """
    own, entries = state_of(module), _entries(plan)
    for name, entry in entries.items():
        _check_same(module, name, own.get(name), entry)
    stored = _stored_names(own, model)
    masked = {stored.get(name) for name in plan.masks}
    cut: dict[int, torch.Tensor] = {}
    for name, tensor in own.items():
        given = model.tensor(stored[name]).detach() if name in stored else None
        if id(tensor) not in cut:
            left = _cut(tensor.detach(), entries.get(name))
            _check_fits(module, name, left, given)
            if own_weights and given is not None and stored[name] in masked:
                left = torch.where(given == 0, torch.zeros_like(left), left)
            cut[id(tensor)] = (left if own_weights or given is None else given).clone()
    tensors = {name: cut[id(tensor)] for name, tensor in own.items()}
    reference = model.with_tensors({stored[name]: tensors[name] for name in stored})
    return Replayed(tensors, reference, tuple(name for name in own if name not in stored))


def with_tensors(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put tensors of any shape in place of those of a module; what was tied stays tied."""
    fresh: dict[int, torch.Tensor] = {}
    for name, old in state_of(module).items():
        holder, _, leaf = name.rpartition(".")
        if id(old) not in fresh:
            new = tensors[name]
            is_parameter = isinstance(old, nn.Parameter)
            fresh[id(old)] = nn.Parameter(new, requires_grad=old.requires_grad) if is_parameter else new
        setattr(module.get_submodule(holder), leaf, fresh[id(old)])


def _entries(plan: Plan) -> Mapping[str, KeptTensor]:
    """Return what a plan keeps of each tensor, in its types."""
    return plan_form(plan.to_dict(), "plan").tensors


def _stored_names(own: Mapping[str, torch.Tensor], model: TracedModel) -> dict[str, str]:
    """Return for each tensor that the compiled model reads the name under which it has it."""
    read = {str(node.target) for node in model.graph.nodes if node.op == "get_attr"}
    ties: dict[int, list[str]] = {}
    for name, tensor in own.items():
        ties.setdefault(id(tensor), []).append(name)
    found = {}
    for name, tensor in own.items():
        alias = next((one for one in (name, *model.names_of(name), *ties[id(tensor)]) if one in read), None)
        if alias is not None:
            found[name] = alias
    return found


def _cut(tensor: torch.Tensor, entry: KeptTensor | None) -> torch.Tensor:
    """Return what is kept of a tensor, in the order of the compiled model."""
    for one in entry.axes if entry is not None else ():
        tensor = tensor.index_select(one.axis, torch.tensor(one.kept, device=tensor.device))
    return tensor


def _check_same(module: nn.Module, name: str, tensor: torch.Tensor | None, entry: KeptTensor) -> None:
    """Raise unless a module has a tensor as the plan found it.

    Raises:
        UserError: It has not.
    """
    if tensor is None or tuple(tensor.shape) != entry.shape:
        has = f"has no {name}" if tensor is None else f"has {name} of shape {_sizes(tensor.shape)}"
        fact = f"it {has}, and the plan was made for one of shape {_sizes(entry.shape)}"
        raise UserError(fact, where=type(module).__name__, fix=_OTHER_CLASS)


def _check_fits(module: nn.Module, name: str, left: torch.Tensor, given: torch.Tensor | None) -> None:
    """Raise unless what is kept of a tensor has the shape that it has in the build.

    Raises:
        UserError: It has not.
    """
    if given is not None and given.shape != left.shape:
        fact = f"{name} would have the shape {_sizes(left.shape)}, and has {_sizes(given.shape)} in the build"
        raise UserError(fact, where=type(module).__name__, fix=_OTHER_CLASS)


def _sizes(shape: tuple[int, ...]) -> str:
    """Return a shape as text."""
    return "x".join(map(str, shape)) or "scalar"
