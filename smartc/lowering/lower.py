"""Lowering: from a TracedModel to files that run without smartc, each proved against the masked original."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from smartc.core.errors import Argument, UserError
from smartc.ir.traced_model import Remark, TracedModel
from smartc.lowering.to_onnx import OnnxSession, to_onnx
from smartc.lowering.to_program import save_program, to_program
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
    """

    file: str
    stage: str
    write: Callable[[Path], None]
    run: Callable[[tuple[Any, ...]], Any]
    dtype: torch.dtype
    timer: Callable[[tuple[Any, ...]], Timer] | None = None

    def prove(self, reference: Reference) -> Verification:
        """Compare with the masked original.

        Raises:
            InternalError: The outputs differ by more than rounding.
        """
        return reference.compare(self.stage, self.run, self.dtype)


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
    lowered: list[Lowered] = [_program(model, to_program(model))]
    remarks: list[Remark] = []
    if packed is not None and packed.weights:
        lowered.append(_weights(model, packed))
        remarks += packed.remarks
    if "onnx" in backends:
        tile = None if packed is None else packed.target.sparsity.tile[::-1]
        try:
            lowered.append(_onnx(model.to(torch.float32), metadata, tile))
        except UserError as error:
            remarks.append(Remark("model.onnx", f"is not written: {error.fact}"))
    if "tvm" in backends:
        lowered.append(_tvm(model.to(torch.float32), dense or {}))
    return lowered, remarks


def _weights(model: TracedModel, packed: PackedBlocks) -> Lowered:
    """Return the file of packed weights; its proof runs the model on what it holds."""
    content = to_safetensors(model, packed.weights, packed.target)

    def run(flat: tuple[Any, ...]) -> Any:
        return model.with_tensors(from_safetensors(content)).run(flat)

    return Lowered(
        "weights.safetensors", "masked == packed weights", lambda path: _write(path, content), run, model.dtype
    )


def _program(model: TracedModel, program: torch.export.ExportedProgram) -> Lowered:
    """Return the exported program's file."""
    module = program.module(check_guards=False)

    def run(flat: tuple[Any, ...]) -> Any:
        args, kwargs = model.arguments(flat)
        with torch.no_grad():
            return module(*args, **kwargs)

    return Lowered("model.pt2", "masked == .pt2", lambda path: save_program(program, path), run, model.dtype)


def dense_timer(model: TracedModel, metadata: Mapping[str, str]) -> Callable[[tuple[Any, ...]], Timer]:
    """Return what loads a model as ONNX Runtime runs it, to be timed layer by layer.

    Raises:
        UserError: ONNX has no form for an operator of the model.
    """
    return _onnx_timer(_onnx_content(model.to(torch.float32), metadata, None))


def _tvm(model: TracedModel, dense: Mapping[str, bool]) -> Lowered:
    """Return the library that TVM compiles for this processor, for one sample at a time.

    Raises:
        UserError: TVM is not installed, or has no form for an operator of the model.
    """
    try:
        from smartc.lowering.to_tvm import to_tvm
    except ImportError as error:
        fix = "Install it with pip install 'smartc[tvm]'"
        raise UserError(f"TVM is not installed: {error}", where=Argument("backends", ("tvm",)), fix=fix) from error
    from smartc.lowering.time_tvm import TvmTimer

    module = to_tvm(model, dense=dense)

    def run(flat: tuple[Any, ...]) -> Any:
        if not model.dynamic_batch:
            return module.run(flat)
        count = next(len(value) for value in flat if isinstance(value, torch.Tensor))
        rows = [tuple(_row(value, place) for value in flat) for place in range(count)]
        return [np.concatenate(parts) for parts in zip(*(module.run(row) for row in rows), strict=True)]

    return Lowered("model.so", "masked == TVM", module.export, run, torch.float32, partial(TvmTimer, module))


def _row(value: Any, place: int) -> Any:
    """Return one sample of an input."""
    return value[place : place + 1] if isinstance(value, torch.Tensor) else value


def _onnx(model: TracedModel, metadata: Mapping[str, str], tile: tuple[int, int] | None) -> Lowered:
    """Return the ONNX file: in float32, batch norms folded."""
    content = _onnx_content(model, metadata, tile)
    run = OnnxSession(content, model.name).run
    stage, timer = "masked == ONNX Runtime", _onnx_timer(content)
    return Lowered("model.onnx", stage, lambda path: _write(path, content), run, torch.float32, timer)


def _onnx_content(model: TracedModel, metadata: Mapping[str, str], tile: tuple[int, int] | None) -> bytes:
    """Return the ONNX file's content."""
    folded = run_stage("lower", model).model
    content: bytes = to_onnx(folded, to_program(folded), metadata, tile=tile).SerializeToString()
    return content


def _onnx_timer(content: bytes) -> Callable[[tuple[Any, ...]], Timer]:
    """Return what loads an ONNX file to be timed."""
    from smartc.lowering.time_onnx import OnnxTimer

    return partial(OnnxTimer, content)


def _write(path: Path, content: bytes) -> None:
    """Write a binary file."""
    path.write_bytes(content)
