"""What a model is evaluated by: labelled inputs, or a metric of the user's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from smartc.core.brief import readable
from smartc.core.errors import Argument, Phrase, UserError
from smartc.core.load_by_name import load_function
from smartc.data.labelled_file import read_labelled, special_kind
from smartc.ir.traced_model import InputSpec

_ELEMENTS_AT_ONCE = 2**22
# What a report calls inputs and labels that are in no file.
_PAIR = "labelled inputs"


@dataclass(frozen=True, eq=False)
class Labelled:
    """Inputs with their labels.

    Attributes:
        inputs: Shape (N, ...); uint8 stands for 0 to 1 in steps of 1/255 where a model takes floats.
        labels: Integers: shape (N,) for classes, (N, ...) for dense prediction.
        source: What to call them in a report.
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    source: str

    @property
    def where(self) -> Argument:
        """Return the place for errors."""
        return Argument("evaluate", ... if self.source == _PAIR else self.source)


@dataclass(frozen=True, eq=False)
class Metric:
    """A function of the user's that maps a model to a number; higher is better."""

    function: Callable[[nn.Module], float]
    source: str

    @property
    def name(self) -> str:
        """Return the function's own name."""
        return self.source.rpartition(":")[2].rpartition(".")[2]

    @property
    def where(self) -> Argument:
        """Return the place for errors."""
        return Argument("evaluate", self.source if ":" in self.source else self.function)


def load_labelled(spec: Any) -> Labelled | Metric:
    """Return the labelled inputs or the metric that a model is to be evaluated by.

    Args:
        spec: A file (.npz, .safetensors, or .pt of torch.save) with ``inputs`` and ``labels``, or the
            pair itself; ``package.module:function`` of a metric, or the function itself.

    Raises:
        UserError: The file or the function cannot be loaded, or inputs and labels do not fit each other.
    """
    if callable(spec):
        return Metric(spec, getattr(spec, "__qualname__", type(spec).__name__))
    if isinstance(spec, str) and ":" in spec and not Path(spec).exists():
        return Metric(load_function(spec, Argument("evaluate", spec)), spec)
    if isinstance(spec, (str, Path)):
        inputs, labels = read_labelled(Path(spec))
        return _checked(inputs, labels, readable(Path(spec).name), str(spec))
    if not (isinstance(spec, (tuple, list)) and len(spec) == 2 and all(map(torch.is_tensor, spec))):
        fix = "Give a file, a pair of tensors (inputs, labels), or a function of the model"
        raise UserError(f"{type(spec).__name__} holds no labelled inputs", where="evaluate", fix=fix)
    inputs, labels = spec
    return _checked(inputs, labels, _PAIR, "evaluate")


def check_fits(labelled: Labelled | Metric, inputs: Sequence[InputSpec]) -> None:
    """Raise unless a model with these inputs takes the labelled ones.

    Raises:
        UserError: The model has several inputs, or one of another shape or type.
    """
    if isinstance(labelled, Metric):
        return
    where = labelled.where
    if len(inputs) != 1:
        fact = f"the model has {len(inputs)} inputs and the labelled file has one"
        raise UserError(fact, where=where, fix="Give a metric of your own, as package.module:function")
    spec, given = inputs[0], labelled.inputs
    if len(spec.shape) != given.ndim or tuple(spec.shape[1:]) != tuple(given.shape[1:]):
        fact = f"its inputs have the shape {shape_text(given)} and the model takes {spec}"
        raise UserError(fact, where=where, fix="Give inputs of the model's shape")
    scaled = spec.dtype.is_floating_point and (given.is_floating_point() or given.dtype == torch.uint8)
    if not scaled and given.dtype != spec.dtype:
        fact = f"its inputs are {dtype_text(given)} and the model takes {spec}"
        raise UserError(fact, where=where, fix="Give inputs of the model's type")


def _checked(inputs: torch.Tensor, labels: torch.Tensor, source: str, where: str) -> Labelled:
    """Return labelled inputs that fit each other."""
    for what, tensor in (("inputs", inputs), ("labels", labels)):
        kind = special_kind(tensor)
        if kind is not None:
            raise UserError(f"{what} are {kind}", where=where, fix="Store them as plain numbers")
    fix = "Give one label per input"
    if not inputs.ndim or not labels.ndim or len(inputs) != len(labels):
        fact = f"inputs of shape {shape_text(inputs)} and labels of shape {shape_text(labels)} differ in length"
        raise UserError(fact, where=where, fix=fix)
    if not len(inputs):
        raise UserError("it holds no inputs", where=where, fix="Give at least one")
    if labels.is_floating_point() or labels.dtype == torch.bool:
        fact = f"labels are {dtype_text(labels)} and must be integers"
        raise UserError(fact, where=where, fix="Give the number of the class, from 0")
    check_finite(inputs, where)
    return Labelled(inputs, labels.long(), source)


def check_finite(inputs: torch.Tensor, where: Phrase, what: str = "inputs") -> None:
    """Raise if any sample holds NaN or infinity; axis 0 is the sample."""
    if not (inputs.is_floating_point() and inputs.numel()):
        return
    if bool(torch.stack(inputs.aminmax()).isfinite().all()):
        return
    # In parts, since a truth value per number would take a quarter of the memory of all.
    parts = inputs.split(max(1, _ELEMENTS_AT_ONCE * len(inputs) // max(1, inputs.numel())))
    bad = sum(int((~torch.isfinite(part)).reshape(len(part), -1).any(1).sum()) for part in parts)
    if bad:
        fact = f"{bad} of {len(inputs)} {what} hold values that are not finite numbers"
        raise UserError(fact, where=where, fix=f"Leave these {what} out")


def shape_text(tensor: torch.Tensor) -> str:
    """Return for example ``100x1x28x28``."""
    return "x".join(map(str, tensor.shape)) or "scalar"


def dtype_text(tensor: torch.Tensor) -> str:
    """Return for example ``float32``."""
    return str(tensor.dtype).removeprefix("torch.")
