"""The weights of a smaller module as a file, with the attributes that make a module of the class take them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from smartc.core.errors import UserError
from smartc.core.records import decode
from smartc.core.regular_file import read_regular
from smartc.resizing.replay import state_of, with_tensors
from smartc.resizing.trial import Sizes, copy_of, set_sizes

FORMAT = 1
_KEY = "smartc"
_FIX = "Name a file that smartc apply wrote"
_OTHER_CLASS = "Give a module of the class that the file was written for, with the arguments that it had"


@dataclass(frozen=True)
class WeightsForm:
    """What such a file says of itself."""

    format: int
    plan: str
    sizes: Mapping[str, Mapping[str, Any]]


def to_weights_file(module: nn.Module, sizes: Sizes, plan: str) -> bytes:
    """Return the content of a safetensors file with all of a module's tensors, tied ones under each of their names.

    Args:
        module: The smaller module.
        sizes: The attributes of its layers that are others than in a module that is newly made.
        plan: The hash of the plan that it was made by.
    """
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in state_of(module).items()
    }
    about = {"format": FORMAT, "plan": plan, "sizes": sizes}
    return bytes(save(tensors, {_KEY: json.dumps(about, separators=(",", ":"))}))


def resized(module: nn.Module, path: str | Path) -> nn.Module:
    """Return a module of your class as small as a compiled model, with the weights that ``smartc apply`` wrote.

    Args:
        module: Of the class that was compiled, with the arguments that it had; it is left as it is.
        path: What ``smartc apply`` or ``Compiled.apply`` wrote.

    Returns:
        The smaller module, in the mode of the given one, to be run or trained like any other.

    Raises:
        UserError: The file cannot be read, was not written by these, or is for a module of another class.

    Example:
        >>> import smartc, torch
        >>> layers = (torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 8, 3))
        >>> model = torch.nn.Sequential(*layers)
        >>> compiled = smartc.compile(model, torch.randn(1, 3, 8, 8), target="npu-8x8", backends=())
        >>> smaller = compiled.apply(model, output="weights.safetensors")
        >>> smartc.resized(model, "weights.safetensors")[0]
        Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1))
    """
    tensors, sizes = _read(path)
    own = state_of(module)
    absent = [name for name in own if name not in tensors]
    foreign = [name for name in sorted(tensors) if name not in own or not _is_part(tensors[name], own[name])]
    if absent or foreign:
        fact = f"it has no {absent[0]}" if absent else f"its {foreign[0]} is none of the module's, or larger than that"
        raise UserError(fact, where=str(path), fix=_OTHER_CLASS)
    smaller = copy_of(module)
    with_tensors(smaller, tensors)
    set_sizes(smaller, {part: _as_held(module, part, values, path) for part, values in sizes.items()})
    return smaller


def _read(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, dict[str, Any]]]:
    """Return the tensors of a file and the attributes that go with them.

    Raises:
        UserError: The file cannot be read or is another one.
    """
    try:
        content = read_regular(path)
    except OSError as error:
        raise UserError(f"it cannot be read ({error.strerror})", where=str(path), fix="Check the path") from error
    try:
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        form = decode(WeightsForm, json.loads(header["__metadata__"][_KEY]), str(path))
    except (SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise UserError("it was not written by smartc apply", where=str(path), fix=_FIX) from error
    return tensors, {part: dict(values) for part, values in form.sizes.items()}


def _is_part(tensor: torch.Tensor, whole: torch.Tensor) -> bool:
    """Return whether a tensor can be what is left of another."""
    return tensor.ndim == whole.ndim and all(a <= b for a, b in zip(tensor.shape, whole.shape, strict=True))


def _as_held(module: nn.Module, part: str, values: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """Return attributes of a layer in the types that they have there.

    Raises:
        UserError: The module has no such layer, or that no such attributes.
    """
    layer = dict(module.named_modules()).get(part)
    held, found = {} if layer is None else vars(layer), {}
    for name, value in values.items():
        several = isinstance(value, list)
        kind: Any = type(held.get(name))
        sizes = value if several else [value]
        if kind not in ((tuple, list) if several else (int,)) or not all(type(one) is int for one in sizes):
            raise UserError(f"it speaks of {part}.{name}, which is no size", where=str(path), fix=_OTHER_CLASS)
        found[name] = kind(value)
    return found
