"""The text of one input of a model: its shape, and where it matters its name and type."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from smartc.core.errors import Argument, Phrase, UserError
from smartc.ir.traced_model import InputSpec

_FORM = re.compile(r"(?:(?P<name>[A-Za-z_]\w*)=)?(?:(?P<dtype>[a-z]\w*):)?(?P<shape>(?:N|[1-9]\d*)(?:x[1-9]\d*)*)")
_DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
_FREE_BATCH = 2
# About a gigabyte in float32: a mistyped size should not take the machine's memory.
_MOST_ELEMENTS = 2**28


@dataclass(frozen=True)
class InputOption:
    """One of ``input_shapes``; ``name`` and ``dtype`` are None where the text does not give them."""

    text: str
    name: str | None
    dtype: torch.dtype | None
    shape: tuple[int, ...]

    @property
    def where(self) -> Argument:
        """Return the place for errors."""
        return _argument(self.text)

    def example(self, dtype: torch.dtype) -> torch.Tensor:
        """Return a value: seeded noise, or for integers zeros, which are valid as any index.

        Args:
            dtype: The type where the text gives none.
        """
        kind = self.dtype or dtype
        if kind == torch.bool:
            return torch.ones(self.shape, dtype=kind)
        if not kind.is_floating_point:
            return torch.zeros(self.shape, dtype=kind)
        return torch.randn(self.shape, generator=torch.Generator().manual_seed(0)).to(kind)


def parse_input(text: str) -> InputOption:
    """Read ``1x3x224x224``, ``ids=int64:1x128``; ``N`` may stand for the batch.

    Raises:
        UserError: It has another form.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        fix = "Give sizes such as 1x3x224x224, with a name and a type where needed, as in ids=int64:1x128"
        raise UserError("it is not a shape", where=_argument(text), fix=fix)
    name, kind = match["name"], match["dtype"]
    if kind is not None and kind not in _DTYPES:
        raise UserError(f"{kind} is not a type", where=_argument(text), fix=f"The types are {', '.join(_DTYPES)}")
    shape = tuple(_FREE_BATCH if size == "N" else int(size) for size in match["shape"].split("x"))
    if math.prod(shape) > _MOST_ELEMENTS:
        fact = f"it has {math.prod(shape)} elements and the limit is {_MOST_ELEMENTS}"
        raise UserError(fact, where=_argument(text), fix="Give a smaller example")
    return InputOption(text, name, getattr(torch, kind) if kind else None, shape)


def example_inputs(
    options: Sequence[InputOption], dtype: torch.dtype
) -> tuple[torch.Tensor, ...] | dict[str, torch.Tensor]:
    """Return keyword arguments if all options have names, positional ones if none has.

    Raises:
        UserError: Only some have names, or two have the same.
    """
    names = [option.name for option in options if option.name is not None]
    if not names:
        return tuple(option.example(dtype) for option in options)
    unnamed = [option for option in options if option.name is None]
    if unnamed:
        raise UserError("it has no name and others have", where=unnamed[0].where, fix="Name all inputs or none")
    named = {str(option.name): option.example(dtype) for option in options}
    if len(named) < len(names):
        raise UserError(f"{names[-1]} is given twice", where=options[-1].where, fix="Give each input once")
    return named


def check_agrees(options: Sequence[InputOption], inputs: Sequence[InputSpec]) -> None:
    """Raise unless the options describe the inputs that an exported program has; any batch will do.

    Raises:
        UserError: The number of inputs, a name, a type or a size differs.
    """
    fix = ("Leave ", _argument(), " out: an exported program brings its shapes")
    if len(options) != len(inputs):
        fact = f"the model takes {_listing(inputs)} and {len(options)} inputs are given"
        raise UserError(fact, where=_argument(), fix=fix)
    specs = {spec.name: spec for spec in inputs}
    for option, spec in zip(options, inputs, strict=True):
        if option.name is not None and option.name not in specs:
            fact = f"the model has no input {option.name}; it has {_listing(inputs)}"
            raise UserError(fact, where=option.where, fix=fix)
        _check_one(option, specs[option.name] if option.name else spec, fix)


def _check_one(option: InputOption, spec: InputSpec, fix: Phrase) -> None:
    """Compare one option with the input it is for."""
    alike = len(option.shape) == len(spec.shape) and option.shape[1:] == spec.shape[1:]
    if not alike:
        raise UserError(f"wrong input shape; the model takes {spec}", where=option.where, fix=fix)
    if option.dtype not in (None, spec.dtype):
        raise UserError(f"wrong input type; the model takes {spec}", where=option.where, fix=fix)


def _argument(*texts: str) -> Argument:
    """Return the argument that gives inputs, with the texts that are at fault."""
    return Argument("input_shapes", texts or ...)


def _listing(inputs: Sequence[InputSpec]) -> str:
    """Return the inputs of a model as text."""
    return ", ".join(map(str, inputs))
