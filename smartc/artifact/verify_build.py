"""Verify a saved build again: its files against each other, on inputs that were not used before."""

from __future__ import annotations

from pathlib import Path

import torch

from smartc.frontend.model_file import load_model
from smartc.ir.traced_model import TracedModel, cast_value
from smartc.lowering.to_onnx import OnnxSession, check_onnx
from smartc.proof.reference import SEED, TOLERANCE, errors, seeded_inputs
from smartc.results.figures import Verification


def verify_build(folder: str | Path) -> list[Verification]:
    """Return how far each file of a build is from ``model.pt2``, computed in float64.

    Raises:
        UserError: A file cannot be read.
    """
    folder = Path(folder)
    model = load_model(folder / "model.pt2")
    inputs = seeded_inputs(model, batch=2, seed=SEED + 1)
    exact = model.to(torch.float64).run(tuple(cast_value(value, torch.float64) for value in inputs))
    found = [_compared(".pt2 == .pt2 (float64)", exact, model.run(inputs), model.dtype)]
    onnx_file = folder / "model.onnx"
    if onnx_file.exists():
        check_onnx(onnx_file)
        single = tuple(cast_value(value, torch.float32) for value in inputs)
        found.append(_compared("ONNX Runtime == .pt2 (float64)", exact, _run(onnx_file, model, single), torch.float32))
    return found


def _run(file: Path, model: TracedModel, inputs: tuple[object, ...]) -> object:
    """Run an ONNX file."""
    return OnnxSession(str(file), model.name).run(inputs)


def _compared(stage: str, expected: object, actual: object, dtype: torch.dtype) -> Verification:
    """Return the errors of one file."""
    return Verification(stage, *errors(expected, actual), TOLERANCE[dtype], "2 seeded inputs")
