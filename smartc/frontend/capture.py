"""Capture: from a user's module to a TracedModel, with the batch free where the model allows it."""

from __future__ import annotations

import inspect
import logging
import traceback
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from smartc.core.errors import OWN_CODE_FAILURES, UserError, first_line
from smartc.core.quiet import quiet
from smartc.frontend.fixed_batch import noting_fixed_sizes, why_fixed
from smartc.frontend.free_sizes import FreeSizes, told
from smartc.frontend.opaque_outputs import opaque_outputs, without_opaque_outputs
from smartc.frontend.quantised import refuse_quantised, refuse_quantised_graph
from smartc.frontend.user_frame import user_line
from smartc.ir.traced_model import Remark, TracedModel, storage_key
from smartc.ir.whole_recurrences import whole_recurrences
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
    refuse_quantised(module, name)
    was_training = {child: child.training for child in module.modules()}
    try:
        module.eval()
        opaque = opaque_outputs(_checked_outputs(module, args, kwargs, name), name)
        with without_opaque_outputs(module, bool(opaque)):
            program, remarks = _export(module, args, kwargs, name)
    finally:
        for child, training in was_training.items():
            child.training = training
    return from_program(program, name, module.state_dict(keep_vars=True), (*remarks, *opaque, *_left_out(module)))


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

    Raises:
        UserError: It is quantised, or torch.export cannot put its parameters under their names.
    """
    refuse_quantised_graph(program.graph, name)
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
    except (KeyError, RuntimeError, SyntaxError, TypeError) as error:
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


def _checked_outputs(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> Any:
    """Return what the module returns for copies of its inputs, so that a wrong input is told from a wrong export."""
    copied_args, copied_kwargs = pytree.tree_map(_cloned, (args, kwargs))
    buffers = {key: value.clone() for key, value in module.named_buffers()}
    with torch.no_grad():
        try:
            return functional_call(module, buffers, copied_args, copied_kwargs)
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
        wide_args, wide_kwargs = pytree.tree_map(_at_least_two, (args, kwargs))
        lines: list[str] = []
        try:
            return _export_once(module, wide_args, wide_kwargs, lines), ()
        except OWN_CODE_FAILURES as error:
            log.info("no dynamic batch: %s", error)
            refusal = why_fixed(error, lines, batch)
    else:
        refusal = "the batch is fixed to the example's: its tensor inputs do not share the size of axis 0"
    try:
        program = _export_once(module, args, kwargs, None)
    except OWN_CODE_FAILURES as error:
        place = user_line(traceback.extract_tb(error.__traceback__))
        raise UserError(
            f"torch.export refuses the model: {first_line(error)}{place}",
            where=name,
            fix="Change that line so that it does not depend on the values of tensors",
        ) from error
    return program, (Remark(name, refusal),)


def _export_once(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], lines: list[str] | None
) -> torch.export.ExportedProgram:
    """Call torch.export, quietly, with a free batch where there is a list for the lines that fix it."""
    shapes: Any = None
    if lines is not None:
        batch = torch.export.Dim("batch", min=1)
        # By the names that forward has for them: what it takes as *inputs is a tuple.
        named = dict(inspect.signature(module.forward).bind(*args, **kwargs).arguments)
        shapes = pytree.tree_map(lambda leaf: {0: batch} if _is_tensor(leaf) else None, named)
    noting = nullcontext() if lines is None else noting_fixed_sizes(lines)
    with quiet(), whole_recurrences(fixed_steps=True), noting:
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
