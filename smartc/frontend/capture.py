"""Capture: from a user's module to a TracedModel, with the batch free where the model allows it."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from smartc.core.errors import OWN_CODE_FAILURES, UserError, first_line
from smartc.core.quiet import quiet
from smartc.frontend.free_sizes import FreeSizes, told
from smartc.ir.traced_model import Remark, TracedModel, storage_key
from smartc.passes.stages import run_stage

log = logging.getLogger(__name__)
_DROPPED_IN_EVAL = ("AuxLogits", "InceptionAux", "StochasticDepth", "DropPath")


def trace(module: nn.Module, example_inputs: Any) -> TracedModel:
    """Capture a module as a TracedModel, in eval mode and with a dynamic batch.

    Args:
        module: The trained module; its mode and its tensors are left as they are.
        example_inputs: A tensor, a tuple of positional arguments, or a dict of keyword arguments.
            Axis 0 of every tensor is taken for the batch if all agree on its size.

    Returns:
        The model.  Where the module fixes its batch, so does the model, with a remark.

    Raises:
        UserError: The module does not run on these inputs, or torch.export refuses it.

    Example:
        >>> import smartc, torch
        >>> layers = (torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 8, 3))
        >>> traced = smartc.trace(torch.nn.Sequential(*layers), torch.randn(1, 3, 8, 8))
        >>> print(traced.inputs[0])
        input: float32 Nx3x8x8
        >>> for share in ("0.9x", "0.7x"):
        ...     compiled = smartc.compile(traced, target="npu-8x8", latency=share, backends=())
    """
    args, kwargs = split_arguments(example_inputs)
    name = type(module).__name__
    was_training = {child: child.training for child in module.modules()}
    try:
        module.eval()
        _check_runs(module, args, kwargs, name)
        program, remarks = _export(module, args, kwargs, name)
    finally:
        for child, training in was_training.items():
            child.training = training
    return from_program(program, name, module.state_dict(keep_vars=True), (*remarks, *_left_out(module)))


def from_program(
    program: torch.export.ExportedProgram,
    name: str,
    state: Mapping[str, torch.Tensor] | None = None,
    remarks: tuple[Remark, ...] = (),
) -> TracedModel:
    """Return the TracedModel of an exported program, made functional.

    Args:
        program: In training IR, as torch.export.export gives it.
        name: What to call the model.
        state: The user's ``state_dict``, where it says more than the program's (ties).
        remarks: What is known already.
    """
    graph_module = _unlifted(program, name)
    holders = [node for node in graph_module.graph.nodes if node.op == "placeholder"]
    sizes = FreeSizes.of(program, holders)
    args, kwargs = program.example_inputs or ((), {})
    examples = tuple(pytree.tree_leaves((args, kwargs)))
    if len(examples) != len(holders):
        examples = tuple(sizes.example(node.meta["val"]) for node in holders)
    inputs = tuple(sizes.input_spec(node) for node in holders if isinstance(node.meta.get("val"), torch.Tensor))
    sizes.note(graph_module)
    state = program.state_dict if state is None else state
    named = dict(graph_module.named_buffers(remove_duplicate=False)) | dict(state)
    model = TracedModel(
        graph_module, inputs, examples, name, _aliases(named), frozenset(state), (*remarks, *told(inputs))
    )
    return run_stage("capture", model.copy()).model


def _unlifted(program: torch.export.ExportedProgram, name: str) -> torch.fx.GraphModule:
    """Return the graph with its parameters; torch.fx has names of its own that these must not take."""
    try:
        with quiet():
            return program.module(check_guards=False)
    except (KeyError, RuntimeError, TypeError) as error:
        raise UserError(
            f"torch.export cannot put the model's parameters under their names: {first_line(error)}",
            where=name,
            fix="Rename the layer or parameter that this names",
        ) from error
    except Exception as error:
        fact = f"torch.export cannot make a module of the program: {first_line(error)}"
        raise UserError(fact, where=name, fix="Export the model again") from error


def split_arguments(example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return positional and keyword arguments from a tensor, a tuple or list, or a dict."""
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    if isinstance(example_inputs, (tuple, list)):
        return tuple(example_inputs), {}
    return (example_inputs,), {}


def _check_runs(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> None:
    """Run the module once on copies, so that a wrong input is told from a wrong export."""
    copied_args, copied_kwargs = pytree.tree_map(_cloned, (args, kwargs))
    buffers = {key: value.clone() for key, value in module.named_buffers()}
    with torch.no_grad():
        try:
            functional_call(module, buffers, copied_args, copied_kwargs)
        except OWN_CODE_FAILURES as error:
            shapes = ", ".join(
                "x".join(map(str, leaf.shape)) for leaf in pytree.tree_leaves((args, kwargs)) if _is_tensor(leaf)
            )
            raise UserError(
                f"the model does not run on inputs of shape {shapes or 'none'}: {first_line(error)}",
                where=name,
                fix="Give example inputs that the model accepts",
            ) from error


def _export(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], name: str
) -> tuple[torch.export.ExportedProgram, tuple[Remark, ...]]:
    """Export with a dynamic batch, and with a static one where that is refused."""
    batch = batch_size((args, kwargs))
    if batch is not None:
        try:
            wide_args, wide_kwargs = pytree.tree_map(_at_least_two, (args, kwargs))
            return _export_once(module, wide_args, wide_kwargs, dynamic=True), ()
        except OWN_CODE_FAILURES as error:
            log.info("no dynamic batch: %s", error)
            refusal = first_line(error)
    else:
        refusal = "its tensor inputs do not share the size of axis 0"
    try:
        program = _export_once(module, args, kwargs, dynamic=False)
    except OWN_CODE_FAILURES as error:
        raise UserError(
            f"torch.export refuses the model: {first_line(error)}{_user_line(error)}",
            where=name,
            fix="Change that line so that it does not depend on the values of tensors",
        ) from error
    return program, (Remark(name, f"the batch is fixed to the example's: {refusal}"),)


def _export_once(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic: bool
) -> torch.export.ExportedProgram:
    """Call torch.export, quietly."""
    shapes: Any = None
    if dynamic:
        batch = torch.export.Dim("batch", min=1)
        shapes = pytree.tree_map(lambda leaf: {0: batch} if _is_tensor(leaf) else None, (args, kwargs))
        shapes = shapes[0] if not kwargs else (dict(shapes[1]) if not args else None)
        if shapes is None:
            raise ValueError("positional and keyword inputs are mixed")
    with quiet():
        return torch.export.export(module, args, kwargs, dynamic_shapes=shapes, strict=False)


def batch_size(tree: Any) -> int | None:
    """Return the size that axis 0 of every tensor shares, or None where there is none."""
    tensors = [leaf for leaf in pytree.tree_leaves(tree) if _is_tensor(leaf)]
    sizes = {leaf.shape[0] if leaf.ndim else None for leaf in tensors}
    return sizes.pop() if len(sizes) == 1 else None


def _at_least_two(leaf: Any) -> Any:
    """Repeat a batch of one: torch.export would take its size for a constant."""
    return torch.cat([leaf, leaf]) if _is_tensor(leaf) and leaf.shape[0] == 1 else leaf


def _cloned(leaf: Any) -> Any:
    """Return a copy of a tensor, which the module may overwrite."""
    return leaf.clone() if _is_tensor(leaf) else leaf


def _is_tensor(leaf: Any) -> bool:
    """Return whether a leaf of the inputs is a tensor."""
    return isinstance(leaf, torch.Tensor)


def _aliases(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[str, ...]]:
    """Return, for each tensor that has several names, all of them under each."""
    names: dict[tuple[Any, ...], list[str]] = {}
    for name, tensor in state.items():
        if isinstance(tensor, torch.Tensor):
            names.setdefault(storage_key(tensor), []).append(name)
    return {name: tuple(group) for group in names.values() if len(group) > 1 for name in group}


def _left_out(module: nn.Module) -> tuple[Remark, ...]:
    """Say which parts of a module take no part in eval mode."""
    kinds = sorted({type(child).__name__ for child in module.modules()} & set(_DROPPED_IN_EVAL))
    text = "takes no part in inference and is not in the compiled model"
    return tuple(Remark(kind, text) for kind in kinds)


def _user_line(error: BaseException) -> str:
    """Return the innermost place outside torch and smartc that an error passed through."""
    ours = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]), "<")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
    return f" (at {frames[-1].filename}:{frames[-1].lineno}, in {frames[-1].name})" if frames else ""
