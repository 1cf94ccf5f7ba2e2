"""Lower a TracedModel to a module of TVM: block-sparse kernels for what is hot, TVM's own lowering for the rest."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tvm
from tvm import relax

from smartc.core.errors import Argument, InternalError, UserError, first_line
from smartc.core.quiet import quiet
from smartc.ir.traced_model import TracedModel, arguments_of, layer_name, operator_name, operator_of, value_of
from smartc.ir.whole_recurrences import whole_recurrences
from smartc.kernels.inference.walk import relax_module
from smartc.kernels.machine import Machine, machine_for
from smartc.passes.stages import run_stage
from smartc.proof.reference import seeded_inputs

# TVM takes some tenths of a second for each step of a recurrent layer.
MOST_STEPS = 32


@dataclass(frozen=True)
class TvmModule:
    """A network that TVM has compiled for one processor and one batch size.

    Attributes:
        executable: TVM's; holds the machine code and the weights.
        machine: What it was compiled for.
        shapes: The inputs' shapes, in the flattened order of the user's arguments.
        layers: The user's name of the layer that each kernel computes.
    """

    executable: Any
    machine: Machine
    shapes: tuple[tuple[int, ...], ...]
    layers: Mapping[str, str]

    @cached_property
    def runner(self) -> Any:
        """Return the virtual machine that runs it on this processor."""
        return relax.VirtualMachine(self.executable, tvm.cpu())

    def run(self, flat_inputs: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
        """Return the outputs for flattened inputs, the model's non-tensor inputs left out.

        Raises:
            UserError: An input has another shape than the module was compiled for.
        """
        result = self.runner["main"](*self.arguments(flat_inputs))
        return [output.numpy() for output in result]

    def arguments(self, flat_inputs: Sequence[Any]) -> list[Any]:
        """Return TVM's tensors of PyTorch's.

        Raises:
            UserError: One has another shape than the module was compiled for.
        """
        tensors = [leaf for leaf in flat_inputs if isinstance(leaf, torch.Tensor)]
        for tensor, shape in zip(tensors, self.shapes, strict=True):
            if tuple(tensor.shape) != shape:
                raise UserError(
                    f"the input has shape {tuple(tensor.shape)}, but the module was compiled for {shape}",
                    where="model.so",
                    fix="Give inputs of that shape, or compile for this batch size",
                )
        return [tvm.runtime.tensor(tensor.detach().contiguous().numpy()) for tensor in tensors]

    def export(self, path: Path) -> None:
        """Write a shared library that TVM's runtime loads, or a ``.tar`` of its objects to link elsewhere.

        Raises:
            UserError: There is no C++ compiler to link with, or it fails.
        """
        try:
            with _silent():
                self.executable.export_library(str(path))
        except Exception as error:
            compiler = "Install a C++ compiler (g++ or clang++) for the processor"
            raise UserError(
                f"the library cannot be linked: {str(error).strip().splitlines()[-1]}",
                where=str(path),
                fix=(f"{compiler}, or leave tvm out of ", Argument("backends")),
            ) from error


@contextmanager
def _silent() -> Iterator[None]:
    """Silence what TVM's C++ writes to standard error for every constant that it saves."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def to_tvm(
    model: TracedModel, batch: int | None = None, *, mcpu: str | None = None, dense: Mapping[str, bool] | None = None
) -> TvmModule:
    """Compile a model for a processor and a batch size.

    Args:
        model: Zeros in its weights are not computed where a whole column of output channels is zero.
        batch: Samples of a call; where it is None, one, or as many as the model fixes.
        mcpu: ``avx2``, ``avx512``, ``aarch64`` or LLVM's name of a processor; this one where it is None.
        dense: Layers, by the user's name, whose zeros are computed like other weights.

    Raises:
        UserError: TVM has no form for an operator of the model, or no processor of the name.
    """
    machine = machine_for(mcpu)
    folded = run_stage("lower", model.to(torch.float32)).model
    examples = seeded_inputs(folded, batch=1 if batch is None else batch)
    if batch is not None:
        _check_batch(folded, batch)
    _check_recurrences(folded)
    module, layers = relax_module(_static_program(folded, examples), machine, dense or {})
    with machine.target, tvm.transform.PassContext(opt_level=3):
        executable = relax.build(module, machine.target, relax_pipeline=relax.get_default_pipeline(machine.target))
    shapes = tuple(tuple(leaf.shape) for leaf in examples if isinstance(leaf, torch.Tensor))
    return TvmModule(executable, machine, shapes, layers)


def _check_batch(model: TracedModel, batch: int) -> None:
    """Check that a model can be compiled for a batch size.

    Raises:
        UserError: Its batch is fixed to another one.
    """
    sizes = [spec.shape[0] for spec in model.inputs if spec.shape]
    if not model.dynamic_batch and sizes and sizes[0] != batch:
        raise UserError(
            f"the model was captured for a batch of {sizes[0]} alone, not for {batch}",
            where=model.name,
            fix=f"Compile it for a batch of {sizes[0]}",
        )


def _check_recurrences(model: TracedModel) -> None:
    """Check that TVM, which writes every step of a recurrent layer out and gives no states, can have a model's.

    Raises:
        UserError: It cannot, or not in reasonable time.
    """
    written = 0
    for node in (node for node in model.calls() if operator_of(node).rule == "recurrence"):
        arguments, outputs = arguments_of(node), value_of(node)
        written += outputs[0].shape[1 if arguments[8] else 0]
        if operator_name(node.target) in ("lstm", "gru") and any(arguments_of(user)[1] for user in node.users):
            raise UserError(
                f"TVM gives the outputs of {layer_name(node)} alone, and its last state is read, too",
                where=model.name,
                fix=("Leave tvm out of ", Argument("backends")),
            )
    if written > MOST_STEPS:
        raise UserError(
            f"TVM would write {written} steps of recurrent layers out one by one, more than {MOST_STEPS}",
            where=model.name,
            fix=("Leave tvm out of ", Argument("backends")),
        )


def _static_program(model: TracedModel, examples: tuple[Any, ...]) -> torch.export.ExportedProgram:
    """Return the exported program with every shape a number.

    Raises:
        InternalError: torch.export refuses what it gave us before.
    """
    args, kwargs = model.arguments(examples)
    try:
        with quiet(), torch.no_grad(), whole_recurrences():
            return torch.export.export(model.graph_module, args, kwargs, strict=False)
    except Exception as error:
        raise InternalError(
            f"torch.export refuses the compiled graph: {first_line(error)}", where=model.name
        ) from error


def time_layers(module: TvmModule, flat_inputs: Sequence[Any], repeats: int) -> dict[str, list[float]]:
    """Return for each layer its seconds in each of some runs, one that warms up left out.

    A layer's copies count for it; kernels that belong to no layer go by their own names.
    """
    runner = relax.VirtualMachine(module.executable, tvm.cpu())
    arguments = module.arguments(flat_inputs)
    spent: dict[str, float] = {}
    started = [0.0]

    def note(function: Any, name: str, before: bool, result: Any, *arguments: Any) -> None:
        if before:
            started[0] = time.perf_counter()
            return
        layer = module.layers.get(name, name)
        spent[layer] = spent.get(layer, 0.0) + time.perf_counter() - started[0]

    runner.set_instrument(note)
    times: dict[str, list[float]] = {}
    for number in range(repeats + 1):
        spent.clear()
        runner["main"](*arguments)
        for layer, seconds in spent.items() if number else ():
            times.setdefault(layer, []).append(seconds)
    return times
