"""The model of a build, ready to run on arrays: by ONNX Runtime, PyTorch or TVM."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from smartc.artifact.manifest import check_files, read_manifest
from smartc.core.errors import SmartcError, UserError, first_line

if TYPE_CHECKING:
    from smartc.ir.traced_model import TracedModel

Array = npt.NDArray[Any]

_ONNX_TYPES = {
    **{f"tensor({name})": name for name in ("float16", "int64", "int32", "int16", "int8", "uint8", "bool")},
    "tensor(float)": "float32",
    "tensor(double)": "float64",
}


@dataclass(frozen=True)
class Wanted:
    """One input of a model; None in the shape stands for any size."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        """Return for example ``x: float32 Nx3x224x224``."""
        sizes = "x".join("N" if size is None else str(size) for size in self.shape)
        return f"{self.name}: {self.dtype} {sizes or 'scalar'}"

    def takes(self, array: Array) -> bool:
        """Return whether an array has the type and the shape."""
        alike = len(self.shape) == array.ndim and all(
            size in (None, given) for size, given in zip(self.shape, array.shape, strict=True)
        )
        return alike and array.dtype == np.dtype(self.dtype)


@dataclass(frozen=True)
class Runner:
    """A model that maps named arrays to named arrays.

    Attributes:
        file: What it was read from.
        inputs: What it takes.
        call: Runs it.
    """

    file: str
    inputs: tuple[Wanted, ...]
    call: Callable[[Mapping[str, Array]], dict[str, Array]]

    def check(self, arrays: Mapping[str, Array], where: str) -> None:
        """Raise unless every input has its array, of its type and shape, and all have one batch.

        Raises:
            UserError: An array has another type or shape.
        """
        for wanted in self.inputs:
            array = arrays[wanted.name]
            if not wanted.takes(array):
                shape = "x".join(map(str, array.shape)) or "scalar"
                fact = f"{wanted.name} is {array.dtype} {shape}, and the model takes {wanted}"
                raise UserError(fact, where=where, fix="Give an array of that type and shape")
        free = {len(arrays[w.name]) for w in self.inputs if w.shape and w.shape[0] is None}
        if len(free) > 1:
            fact = f"the batches of the inputs differ: {', '.join(map(str, sorted(free)))}"
            raise UserError(fact, where=where, fix="Give arrays of one batch")
        if free == {0}:
            raise UserError("it holds no inputs", where=where, fix="Give a batch of at least one")


def open_runner(folder: str | Path, file: str | None = None) -> Runner:
    """Return the model of a build.

    Args:
        folder: The build.
        file: Which of its files to run, of ``FILES``; None for the first of them that is there.

    Raises:
        UserError: The folder is no build, or the model's file is missing or changed.
    """
    there = read_manifest(folder)["files"]
    found = [name for name in FILES if name in there and (file in (None, name))]
    if not found and file is not None:
        fix = f"It has {', '.join(name for name in FILES if name in there)}"
        raise UserError(f"it has no {file}", where=str(folder), fix=fix)
    if not found:
        raise UserError("it holds no model", where=str(folder), fix="Compile the model again")
    needed = ("model.pt2",) if found[0] == "model.so" else ()
    data = (f"{found[0]}.data",) if f"{found[0]}.data" in there else ()
    check_files(folder, found[0], *needed, *data)
    return open_file(Path(folder) / found[0])


def open_file(path: Path) -> Runner:
    """Return a model file of a build, ready to run; a library takes what ``model.pt2`` beside it takes.

    Raises:
        UserError: Its runtime is not installed, or cannot load it.
    """
    try:
        return FILES[path.name](path)
    except SmartcError:
        raise
    except ImportError as error:
        fix = "Install it, or run another file of the build"
        raise UserError(f"its runtime is not installed: {error}", where=str(path), fix=fix) from error
    except Exception as error:
        fact = f"its runtime cannot load it: {first_line(error)}"
        raise UserError(fact, where=str(path), fix="Compile the model again") from error


def _by_onnx_runtime(path: Path) -> Runner:
    """Open an ONNX file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: they are raised, warnings are not the user's
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = tuple(
        Wanted(
            one.name,
            _ONNX_TYPES.get(one.type, one.type),
            tuple(size if isinstance(size, int) else None for size in one.shape),
        )
        for one in session.get_inputs()
    )
    names = [one.name for one in session.get_outputs()]

    def call(arrays: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(names, session.run(names, dict(arrays)), strict=True))

    return Runner(f"{path} by ONNX Runtime", inputs, call)


def _by_torch(path: Path) -> Runner:
    """Open an exported program."""
    import torch
    from torch.utils import _pytree as pytree

    model = load_named(path)
    inputs = _wanted(model)

    def call(arrays: Mapping[str, Array]) -> dict[str, Array]:
        given = iter([torch.from_numpy(np.ascontiguousarray(arrays[wanted.name])) for wanted in inputs])
        flat = tuple(next(given) if torch.is_tensor(one) else one for one in model.examples)
        leaves = [leaf for leaf in pytree.tree_leaves(model.run(flat)) if torch.is_tensor(leaf)]
        return dict(zip(model.output_names, map(np.asarray, leaves), strict=True))

    return Runner(f"{path} by PyTorch", inputs, call)


def _by_tvm(path: Path) -> Runner:
    """Open a library; it takes one sample at a time where the batch is free, and floats as float32."""
    import tvm
    from tvm import relax

    model = load_named(path.with_name("model.pt2"))
    machine = relax.VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())
    inputs = tuple(replace(one, dtype=_single(one.dtype)) for one in _wanted(model))

    def once(arrays: Sequence[Array]) -> list[Array]:
        given = [tvm.runtime.tensor(np.ascontiguousarray(array)) for array in arrays]
        return [output.numpy() for output in machine["main"](*given)]

    def call(arrays: Mapping[str, Array]) -> dict[str, Array]:
        given = [arrays[wanted.name] for wanted in inputs]
        if not model.dynamic_batch:
            return dict(zip(model.output_names, once(given), strict=True))
        rows = [once([array[place : place + 1] for array in given]) for place in range(len(given[0]))]
        return {
            name: np.concatenate(parts) for name, parts in zip(model.output_names, zip(*rows, strict=True), strict=True)
        }

    return Runner(f"{path} by TVM", inputs, call)


# What opens each file that holds the model, the one that runs where none is named first.
FILES: Mapping[str, Callable[[Path], Runner]] = {
    "model.onnx": _by_onnx_runtime,
    "model.pt2": _by_torch,
    "model.so": _by_tvm,
}


def load_named(path: Path) -> TracedModel:
    """Return the exported program of a build, its outputs called what the manifest calls them."""
    from smartc.frontend.model_file import load_model

    model = load_model(path)
    names = read_manifest(path.parent).get("outputs")
    known = isinstance(names, list) and len(names) == len(model.output_names)
    return replace(model, outputs=tuple(map(str, names))) if known and names else model


def _wanted(model: TracedModel) -> tuple[Wanted, ...]:
    """Return what a model takes."""
    return tuple(Wanted(spec.name, str(spec.dtype).removeprefix("torch."), spec.shape) for spec in model.inputs)


def _single(dtype: str) -> str:
    """Return the type in which lowered files take what the model takes in a type."""
    return "float32" if "float" in dtype else dtype
