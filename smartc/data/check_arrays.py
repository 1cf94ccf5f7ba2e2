"""Whether arrays are what a model takes: shapes, types, lengths, values."""

from __future__ import annotations

import torch

from smartc.core.errors import Argument, Phrase, UserError
from smartc.data.arrays import Arrays, InputLayout
from smartc.data.labelled import check_finite, dtype_text, shape_text
from smartc.ir.traced_model import InputSpec, TracedModel, arguments_of, operator_name, stored_name

# torch can store these but has next to no operators for them.
_STORED_ONLY = (torch.uint16, torch.uint32, torch.uint64)


def checked(arrays: Arrays, layout: InputLayout, where: Phrase) -> Arrays:
    """Return arrays that a model takes, in memory as compact as what was given allows.

    Raises:
        UserError: A shape, type, length or value is wrong.
    """
    specs = layout.model.inputs
    for spec, tensor in zip(specs, arrays.tensors, strict=True):
        _check_shape(spec, tensor, where)
        _check_type(spec, tensor, where)
    _check_lengths(specs, arrays, where)
    _check_preprocess(layout, arrays)
    tensors = tuple(_compact(tensor, spec.dtype) for spec, tensor in zip(specs, arrays.tensors, strict=True))
    labels = None if arrays.labels is None else _compact(arrays.labels, arrays.labels.dtype)
    for tensor in tensors:
        check_finite(tensor, where)
    if labels is not None:
        check_finite(labels, where, "labels")
    _check_indices(layout.model, tensors, where)
    return Arrays(tensors, labels)


def _check_shape(spec: InputSpec, tensor: torch.Tensor, where: Phrase) -> None:
    """Fail unless all sizes but the number of samples are the input's."""
    fits = tensor.ndim == len(spec.shape) and all(
        size in (None, given) for size, given in zip(spec.shape[1:], tensor.shape[1:], strict=True)
    )
    if fits:
        return
    moved = tensor.ndim == len(spec.shape) and sorted(map(str, spec.shape[1:])) == sorted(map(str, tensor.shape[1:]))
    fact = f"{spec.name} has the shape {shape_text(tensor)} and the model takes {spec}"
    raise UserError(fact, where=where, fix="Move its axes into that order" if moved else "Reshape it")


def _check_type(spec: InputSpec, tensor: torch.Tensor, where: Phrase) -> None:
    """Fail unless floats get floats or uint8, and whole numbers get whole numbers."""
    floats = tensor.is_floating_point()
    if floats if not spec.dtype.is_floating_point else not (floats or tensor.dtype == torch.uint8):
        fix = "Give floating-point numbers, or uint8 for 0 to 1 in steps of 1/255"
        fact = f"{spec.name} is {dtype_text(tensor)} and the model takes {spec}"
        raise UserError(fact, where=where, fix=fix if spec.dtype.is_floating_point else "Give whole numbers")


def _check_lengths(specs: tuple[InputSpec, ...], arrays: Arrays, where: Phrase) -> None:
    """Fail unless every array has as many samples as the first, and at least one."""
    names = [*(spec.name for spec in specs), "labels"]
    for name, tensor in zip(names[1:], arrays.all[1:], strict=False):
        if not tensor.ndim or len(tensor) != len(arrays):
            fact = f"{name} has the shape {shape_text(tensor)} and there are {len(arrays)} samples of {names[0]}"
            raise UserError(fact, where=where, fix="Give one entry per sample, along axis 0")
    if not all(tensor.numel() for tensor in arrays.tensors):
        raise UserError("it holds no inputs", where=where, fix="Give at least one")


def _check_preprocess(layout: InputLayout, arrays: Arrays) -> None:
    """Fail if there is nothing to preprocess, or the channels are not those that it is for."""
    if layout.preprocess is None:
        return
    scaled = [spec for place, spec in enumerate(layout.model.inputs) if layout.scales(place, arrays.tensors[place])]
    if not scaled:
        kinds = ", ".join(dtype_text(tensor) for tensor in arrays.tensors)
        fact = f"it is for images and uint8 arrays, and the data are {kinds}"
        raise UserError(fact, where=layout.preprocess.where, fix=("Leave ", Argument("preprocess"), " out"))
    for spec in scaled:
        layout.preprocess.check_channels(spec)


def _compact(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return floats in the model's type where that is smaller, and other numbers in a type that torch works with."""
    if tensor.is_floating_point() and dtype.itemsize < tensor.element_size():
        tensor = tensor.to(dtype)
    return (tensor.long() if tensor.dtype in _STORED_ONLY else tensor).contiguous()


def _check_indices(model: TracedModel, tensors: tuple[torch.Tensor, ...], where: Phrase) -> None:
    """Fail if an index is outside the table that it is for; a model fails late at that, or on a GPU for good."""
    rows: dict[str, int] = {}
    for call in model.calls():
        if operator_name(call.target) == "embedding":
            weight, ids = arguments_of(call)[:2]
            name = stored_name(weight)
            if ids.op == "placeholder" and name is not None:
                rows[str(ids.target)] = len(model.tensor(name))
    for spec, tensor in zip(model.inputs, tensors, strict=True):
        if spec.name not in rows:
            continue
        lowest, highest, most = int(tensor.min()), int(tensor.max()), rows[spec.name]
        if lowest < 0 or highest >= most:
            fact = f"{spec.name} goes from {lowest} to {highest} and the model's table has {most} rows"
            raise UserError(fact, where=where, fix=f"Give indices from 0 to {most - 1}")
