"""Lowering: from a TracedModel to files that run without smartc, each proved against the masked original."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from smartc.core.errors import Argument, SmartcError, UserError, first_line
from smartc.core.out_of_memory import memory_error
from smartc.ir.cast_literals import coarsest_type
from smartc.ir.traced_model import Remark, TracedModel
from smartc.lowering.onnx_files import onnx_files
from smartc.lowering.to_onnx import to_onnx
from smartc.lowering.to_program import fixed_by_compiling, fixed_sizes, save_program, to_program
from smartc.lowering.to_safetensors import from_safetensors, to_safetensors
from smartc.passes.pack_blocks import PackedBlocks
from smartc.passes.stages import run_stage
from smartc.proof.reference import Reference, Verification

BACKENDS = ("pt2", "onnx", "tvm")


class Timer(Protocol):
    """Runs a network and tells what it took.

    Attributes:
        by_node: Whether times go by the nodes of an ONNX model, or by the user's layers.
    """

    by_node: bool

    def whole(self) -> float:
        """Return the seconds of processor time of one run."""

    def profile(self) -> None:
        """Run once, each part of the network timed."""

    def times(self) -> dict[str, list[float]]:
        """Return the seconds of every part in every run of ``profile``; there are no runs after this."""


@dataclass(frozen=True, eq=False)
class Lowered:
    """One file of an artifact.

    Attributes:
        file: Its name.
        stage: What the proof calls it.
        write: Writes it to a path.
        run: Computes its outputs from flattened inputs.
        dtype: The floating type that it takes.
        timer: Loads it with some inputs, to be timed layer by layer; None where nothing times it.
        runtime: What runs it, None where that is PyTorch.
        coarsest: The floating type with the fewest digits that it computes in, where that is another.
    """

    file: str
    stage: str
    write: Callable[[Path], None]
    run: Callable[[tuple[Any, ...]], Any]
    dtype: torch.dtype
    timer: Callable[[tuple[Any, ...]], Timer] | None = None
    runtime: str | None = None
    coarsest: torch.dtype | None = None

    def prove(self, reference: Reference) -> Verification:
        """Compare with the masked original.

        Raises:
            InternalError: The outputs differ by more than rounding.
        """
        return reference.compare(self.stage, self.run, self.dtype, self.coarsest)


def lower(
    model: TracedModel,
    backends: Sequence[str],
    metadata: Mapping[str, str],
    *,
    packed: PackedBlocks | None = None,
    dense: Mapping[str, bool] | None = None,
) -> tuple[list[Lowered], list[Remark]]:
    """Return the files of the chosen backends, and why a chosen one is missing; ``.pt2`` is always there.

    Args:
        model: What is lowered.
        backends: Of ``BACKENDS``.
        metadata: Goes into the ONNX model's properties under ``smartc.``.
        packed: The weights that are stored without their zero tiles, in ``weights.safetensors`` and in
            the ONNX file; None stores every weight whole.
        dense: Layers, by the user's name, whose zeros TVM's code computes like other weights.
    """
    program = to_program(model)
    lowered: list[Lowered] = [_program(model, program)]
    # An ONNX file is made of a program like this one.
    remarks = list(fixed_sizes(model, program, ("model.pt2", *(["model.onnx"] if "onnx" in backends else []))))
    if packed is not None and packed.weights:
        lowered.append(_weights(model, packed))
        remarks += packed.remarks
    if "onnx" in backends:
        tile = None if packed is None else packed.target.sparsity.tile[::-1]
        _add("model.onnx", lambda: _onnx(model.to(torch.float32), metadata, tile), lowered, remarks)
    coarsest = coarsest_type(model.graph, model.dtype)
    if coarsest != model.dtype:
        own = str(coarsest).removeprefix("torch.")
        files = [file for name, file in (("onnx", "model.onnx"), ("tvm", "model.so")) if name in backends]
        remarks += [Remark(file, f"computes in float32 what the model computes in {own}") for file in files]
    if "tvm" in backends:
        check_tvm()
        _add("model.so", lambda: _tvm(model.to(torch.float32), dense or {}), lowered, remarks)
        if lowered[-1].file == "model.so":
            remarks += fixed_by_compiling(model, "model.so")
    return lowered, remarks


def _add(file: str, make: Callable[[], Lowered], lowered: list[Lowered], remarks: list[Remark]) -> None:
    """Add a file for another runtime, or a remark on why there is none: its defects cost that file alone."""
    try:
        lowered.append(make())
    except Exception as error:
        if memory_error(error, file) is not None:
            raise
        fact = error.fact if isinstance(error, SmartcError) else f"{type(error).__name__}: {first_line(error)}"
        remarks.append(Remark(file, f"is not written: {fact}"))


def check_tvm() -> None:
    """Raise unless TVM is installed.

    Raises:
        UserError: It is not.
    """
    try:
        import_module("smartc.lowering.to_tvm")
    except ImportError as error:
        fix = "Install it with pip install 'smartc[tvm]'"
        raise UserError(f"TVM is not installed: {error}", where=Argument("backends", ("tvm",)), fix=fix) from error


def _weights(model: TracedModel, packed: PackedBlocks) -> Lowered:
    """Return the file of packed weights; its proof runs the model on what it holds."""
    content = to_safetensors(model, packed.weights, packed.target)

    def run(flat: tuple[Any, ...]) -> Any:
        return model.with_tensors(from_safetensors(content)).run(flat)

    stage, coarsest = "masked == packed weights", coarsest_type(model.graph, model.dtype)
    return Lowered(
        "weights.safetensors", stage, lambda path: _write(path, content), run, model.dtype, coarsest=coarsest
    )


def _program(model: TracedModel, program: torch.export.ExportedProgram) -> Lowered:
    """Return the exported program's file."""
    module = program.module(check_guards=False)

    def run(flat: tuple[Any, ...]) -> Any:
        args, kwargs = model.arguments(flat)
        with torch.no_grad():
            return module(*args, **kwargs)

    stage, coarsest = "masked == .pt2", coarsest_type(model.graph, model.dtype)
    return Lowered("model.pt2", stage, lambda path: save_program(program, path), run, model.dtype, coarsest=coarsest)


def dense_timer(model: TracedModel, metadata: Mapping[str, str]) -> Callable[[tuple[Any, ...]], Timer]:
    """Return what loads a model as ONNX Runtime runs it, to be timed layer by layer.

    Raises:
        UserError: ONNX has no form for an operator of the model.
    """
    files = onnx_files(_onnx_model(model.to(torch.float32), metadata, None), model.name)
    if files.content is None:
        fix = "Take a smaller network, or another target"
        raise UserError("its weights are too large to be timed in ONNX Runtime", where=model.name, fix=fix)
    return _onnx_timer(files.content)


def _tvm(model: TracedModel, dense: Mapping[str, bool]) -> Lowered:
    """Return the library that TVM compiles for this processor, for one sample at a time.

    Raises:
        UserError: TVM has no form for an operator of the model.
    """
    from smartc.lowering.time_tvm import TvmTimer
    from smartc.lowering.to_tvm import to_tvm

    module = to_tvm(model, dense=dense)

    def run(flat: tuple[Any, ...]) -> Any:
        if not model.dynamic_batch:
            return module.run(flat)
        count = next(len(value) for value in flat if isinstance(value, torch.Tensor))
        rows = [tuple(_row(value, place) for value in flat) for place in range(count)]
        return [np.concatenate(parts) for parts in zip(*(module.run(row) for row in rows), strict=True)]

    timer = partial(TvmTimer, module)
    return Lowered("model.so", "masked == TVM", module.export, run, torch.float32, timer, "TVM")


def _row(value: Any, place: int) -> Any:
    """Return one sample of an input."""
    return value[place : place + 1] if isinstance(value, torch.Tensor) else value


def _onnx(model: TracedModel, metadata: Mapping[str, str], tile: tuple[int, int] | None) -> Lowered:
    """Return the ONNX file: in float32, batch norms folded."""
    files = onnx_files(_onnx_model(model, metadata, tile), model.name)
    stage, timer = "masked == ONNX Runtime", None if files.content is None else _onnx_timer(files.content)
    return Lowered("model.onnx", stage, files.write, files.run, torch.float32, timer, "ONNX Runtime")


def _onnx_model(model: TracedModel, metadata: Mapping[str, str], tile: tuple[int, int] | None) -> Any:
    """Return the ONNX model."""
    folded = run_stage("lower", model).model
    return to_onnx(folded, to_program(folded), metadata, tile=tile)


def _onnx_timer(content: bytes) -> Callable[[tuple[Any, ...]], Timer]:
    """Return what loads an ONNX file to be timed."""
    from smartc.lowering.time_onnx import OnnxTimer

    return partial(OnnxTimer, content)


def _write(path: Path, content: bytes) -> None:
    """Write a binary file."""
    path.write_bytes(content)
