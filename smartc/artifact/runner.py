"""The model of a build, ready to run on arrays: by ONNX Runtime, or PyTorch where there is no ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from smartc.artifact.manifest import check_files, read_manifest
from smartc.core.errors import UserError

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


def open_runner(folder: str | Path) -> Runner:
    """Return the model of a build.

    Raises:
        UserError: The folder is no build, or the model's file is missing or changed.
    """
    files = read_manifest(folder)["files"]
    for name, opened in (("model.onnx", _by_onnx_runtime), ("model.pt2", _by_torch)):
        if name in files:
            check_files(folder, name)
            return opened(Path(folder) / name)
    raise UserError("it holds no model", where=str(folder), fix="Compile the model again")


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

    from smartc.frontend.model_file import load_model

    model = load_model(path)
    inputs = tuple(Wanted(spec.name, str(spec.dtype).removeprefix("torch."), spec.shape) for spec in model.inputs)

    def call(arrays: Mapping[str, Array]) -> dict[str, Array]:
        given = iter([torch.from_numpy(np.ascontiguousarray(arrays[wanted.name])) for wanted in inputs])
        flat = tuple(next(given) if torch.is_tensor(one) else one for one in model.examples)
        return _named_outputs(pytree.tree_leaves(model.run(flat)))

    return Runner(f"{path} by PyTorch", inputs, call)


def _named_outputs(leaves: Sequence[Any]) -> dict[str, Array]:
    """Return outputs by position."""
    return {f"output_{index}": np.asarray(leaf) for index, leaf in enumerate(leaves)}
