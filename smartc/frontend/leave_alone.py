"""Mark the layers that the user wants left alone, by their names or by patterns of these."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import torch

from smartc.core.errors import Argument, UserError
from smartc.ir.traced_model import Remark, TracedModel, layer_name, storage_key
from smartc.results.formats import listing

_NAMES_SHOWN = 4


def leave_alone(model: TracedModel, keep: str | Sequence[str] = (), only: str | Sequence[str] = ()) -> TracedModel:
    """Return a model with the tensors marked that stay as they are; itself where nothing is asked for.

    A pattern stands for every layer and parameter that it matches, and for all that lies below it: ``head`` and
    ``head.*`` are the same.

    Args:
        model: The model as it was captured.
        keep: Names, or patterns as of a shell, of what is left alone.
        only: Likewise of what is not: all else is left alone.

    Raises:
        UserError: A pattern matches nothing.
    """
    keep, only = ((given,) if isinstance(given, str) else tuple(given) for given in (keep, only))
    if not keep and not only:
        return model
    names = tensor_names(model)
    for option, patterns in (("keep", keep), ("only", only)):
        for pattern in patterns:
            _check(model, option, pattern, names)
    untouched: dict[str, str] = {}
    for tensor, known in names.items():
        if _matches(known, keep):
            untouched[tensor] = "named by `keep`"
        elif only and not _matches(known, only):
            untouched[tensor] = "not named by `only`"
    remark = Remark(model.name, f"left alone: {_layers(untouched)}")
    return replace(model, untouched=untouched, remarks=(*model.remarks, remark) if untouched else model.remarks)


def tensor_names(model: TracedModel) -> Mapping[str, tuple[str, ...]]:
    """Return, for each stored tensor, all that it is called: itself and the modules around it, under all its names."""
    module = model.graph_module
    own: dict[str, torch.Tensor] = dict(module.named_buffers(remove_duplicate=False))
    own.update(module.named_parameters(remove_duplicate=False))
    alike: dict[object, set[str]] = {}
    for name, tensor in own.items():
        alike.setdefault(storage_key(tensor), set()).update((name, *model.names_of(name)))
    for node in model.graph.nodes:
        if node.op == "get_attr" and str(node.target) in own:
            # A report calls what no module of torch's own computes by the call.
            alike[storage_key(own[str(node.target)])].update(f"{layer_name(user)}." for user in node.users)
    every: dict[str, tuple[str, ...]] = {}
    for known in alike.values():
        found = tuple(sorted({part for name in known for part in _parts(name)}))
        every |= {name: found for name in known if not name.endswith(".")}
    # What takes no part in inference has nothing to keep, but a name of it is no mistake.
    return every | {name: tuple(_parts(name)) for name in sorted(model.state_names - every.keys())}


def _parts(name: str) -> Iterator[str]:
    """Yield a tensor's name and those of the modules around it; of a call's name, which ends in a dot, that alone."""
    if name.endswith("."):
        yield name[:-1]
        return
    while name:
        yield name
        name = name.rpartition(".")[0]


def _matches(names: Sequence[str], patterns: Sequence[str]) -> bool:
    """Return whether a pattern matches a name."""
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def _check(model: TracedModel, option: str, pattern: str, names: Mapping[str, tuple[str, ...]]) -> None:
    """Raise unless a pattern matches something.

    Raises:
        UserError: It does not.
    """
    if any(_matches(known, (pattern,)) for known in names.values()):
        return
    layers = sorted({name for known in names.values() for name in known if name not in names})
    nearest = difflib.get_close_matches(pattern.rstrip(".*"), layers or list(names), n=3, cutoff=0.3) or layers[:3]
    where = Argument(option, pattern)
    fix = f"The nearest are {', '.join(nearest)}"
    raise UserError(f"{model.name} has no layer or parameter of that name", where=where, fix=fix)


def _layers(untouched: Mapping[str, str]) -> str:
    """Return the layers whose tensors are left alone, by the reason."""
    found: dict[str, dict[str, None]] = {}
    for name, reason in untouched.items():
        found.setdefault(reason, {})[name.rpartition(".")[0] or name] = None
    return "; ".join(f"{listing(list(layers), _NAMES_SHOWN)} ({reason})" for reason, layers in found.items())
