"""Verify a saved build again: its files against each other, on inputs that were not used before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch.utils import _pytree as pytree

from smartc.artifact.runner import Array, Runner, open_file
from smartc.core.errors import UserError, first_line
from smartc.frontend.model_file import load_model
from smartc.ir.cast_literals import cast_value, coarsest_type
from smartc.ir.traced_model import TracedModel
from smartc.lowering.to_onnx import check_onnx
from smartc.lowering.to_safetensors import from_safetensors
from smartc.proof.reference import SEED, errors, seeded_inputs, tolerance_of
from smartc.results.figures import Verification

AGAIN = "Compile the model again"
NO_TVM = "model.so was not run: TVM is not installed. Install it with pip install 'smartc[tvm]'."
# Weights are stored twice; both are the same numbers.
EQUAL = 0.0


@dataclass(frozen=True)
class Verified:
    """What each file of a build computes beside what ``model.pt2`` does, and which could not be run."""

    stages: Mapping[str, Verification]
    remarks: tuple[str, ...] = ()

    def check(self, folder: str | Path) -> None:
        """Raise if a file is off by more than its tolerance.

        Raises:
            UserError: One is; a file that smartc wrote is not.
        """
        for name, one in self.stages.items():
            if not one.passed:
                off = f"{one.max_rel_error:.2e} (relative), allowed is {one.tolerance:.0e}"
                fact = f"it computes something else than model.pt2 in float64: the outputs differ by {off}"
                raise UserError(fact, where=str(Path(folder) / name), fix=AGAIN)


def verify_build(folder: str | Path) -> Verified:
    """Return how far each file of a build is from ``model.pt2``, computed in float64.

    Every file is run, ``model.so`` with the code for this processor that is in it.

    Raises:
        UserError: A file cannot be read or run.
    """
    folder = Path(folder)
    model = load_model(folder / "model.pt2")
    inputs = seeded_inputs(model, batch=2, seed=SEED + 1)
    exact = model.to(torch.float64).run(tuple(cast_value(value, torch.float64) for value in inputs))
    coarsest = coarsest_type(model.graph, model.dtype)
    stages = {"model.pt2": _compared(".pt2 == .pt2 (float64)", exact, model.run(inputs), coarsest)}
    remarks: tuple[str, ...] = ()
    if (folder / "weights.safetensors").exists():
        stages["weights.safetensors"] = _weights(folder / "weights.safetensors", model)
    if (folder / "model.onnx").exists():
        check_onnx(folder / "model.onnx")
        outputs = _run(folder / "model.onnx", model, inputs)
        stages["model.onnx"] = _compared("ONNX Runtime == .pt2 (float64)", exact, outputs, torch.float32)
    if (folder / "model.so").exists() and find_spec("tvm") is None:
        remarks = (NO_TVM,)
    elif (folder / "model.so").exists():
        outputs = _run(folder / "model.so", model, inputs)
        stages["model.so"] = _compared("TVM == .pt2 (float64)", exact, outputs, torch.float32)
    return Verified(stages, remarks)


def _run(file: Path, model: TracedModel, inputs: tuple[Any, ...]) -> list[Array]:
    """Return the outputs of a file for flattened inputs.

    Raises:
        UserError: It does not run on what model.pt2 takes.
    """
    runner = open_file(file)
    tensors = [cast_value(value, torch.float32) for value in inputs if isinstance(value, torch.Tensor)]
    named = {spec.name: tensor.numpy() for spec, tensor in zip(model.inputs, tensors, strict=True)}
    try:
        return _outputs(runner, named)
    except UserError:
        raise
    except Exception as error:
        fact = f"it does not run on what model.pt2 takes: {first_line(error)}"
        raise UserError(fact, where=str(file), fix=AGAIN) from error


def _outputs(runner: Runner, named: Mapping[str, Array]) -> list[Array]:
    """Return the outputs of a runner for inputs by name; a file that knows other names gets them in their order."""
    names = [wanted.name for wanted in runner.inputs]
    by_place = dict(zip(names, named.values(), strict=True))
    return list(runner.call(by_place).values())


def _weights(file: Path, model: TracedModel) -> Verification:
    """Return how far the packed weights are from those of the model, all of which must be there.

    Raises:
        UserError: The file cannot be read, or lacks a tensor.
    """
    try:
        unpacked = from_safetensors(file.read_bytes())
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"it holds no packed weights: {first_line(error)}", where=str(file), fix=AGAIN) from error
    module = model.graph_module
    stored = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    names = {name: next((one for one in model.names_of(name) if one in unpacked), None) for name in stored}
    missing = [name for name, found in names.items() if found is None]
    if missing:
        raise UserError(f"it lacks {missing[0]}, which model.pt2 has", where=str(file), fix=AGAIN)
    expected = [tensor.detach() for tensor in stored.values()]
    actual = [unpacked[str(found)] for found in names.values()]
    found = errors(expected, actual)
    return Verification("weights.safetensors == .pt2", *found, EQUAL, f"{len(expected)} tensors")


def _compared(stage: str, expected: Any, actual: Any, dtype: torch.dtype) -> Verification:
    """Return the errors of one file; infinite ones where it has other outputs."""
    count = len([leaf for leaf in pytree.tree_leaves(expected) if isinstance(leaf, torch.Tensor)])
    alike = len([leaf for leaf in pytree.tree_leaves(actual) if hasattr(leaf, "shape")]) == count
    found = errors(expected, actual) if alike else (float("inf"), float("inf"))
    return Verification(stage, *found, tolerance_of(dtype), "2 seeded inputs")
