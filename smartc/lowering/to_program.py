"""Lower a TracedModel to an exported program, the content of a ``.pt2`` file."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from smartc.core.errors import InternalError, first_line
from smartc.core.quiet import quiet
from smartc.ir.traced_model import Remark, TracedModel
from smartc.ir.whole_recurrences import whole_recurrences
from smartc.proof.reference import seeded_inputs

log = logging.getLogger(__name__)


def to_program(model: TracedModel) -> torch.export.ExportedProgram:
    """Return the exported program of a model, with the sizes free that the model's are, where torch.export can.

    Raises:
        InternalError: torch.export refuses what it gave us before.
    """
    args, kwargs = model.arguments(seeded_inputs(model, batch=2))
    try:
        program = _exported(model, args, kwargs)
    except Exception as error:
        raise InternalError(
            f"torch.export refuses the compiled graph: {first_line(error)}", where=model.name
        ) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def _exported(model: TracedModel, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.export.ExportedProgram:
    """Return the program with all sizes free, or with the batch alone where that is refused."""
    shapes = [dynamic_shapes(model, args, kwargs, others=others) for others in (True, False)]
    with quiet(), torch.no_grad(), whole_recurrences():
        if _has_free_sizes(model):
            try:
                return torch.export.export(model.graph_module, args, kwargs, dynamic_shapes=shapes[0], strict=False)
            except Exception as error:
                log.info("only the batch is free: %s", error)
        return torch.export.export(model.graph_module, args, kwargs, dynamic_shapes=shapes[1], strict=False)


def dynamic_shapes(model: TracedModel, args: tuple[Any, ...], kwargs: dict[str, Any], *, others: bool) -> Any:
    """Return which axes are free, in the structure that torch.export wants; ``others`` than the batch, too."""
    if not model.dynamic_batch and not (others and _has_free_sizes(model)):
        return None
    batch = torch.export.Dim("batch", min=1)
    specs = iter(model.inputs)

    def free(leaf: Any) -> Any:
        """Return the free axes of the next input."""
        if not isinstance(leaf, torch.Tensor):
            return None
        spec = next(specs)
        # What the exporter finds out about a size may be more than its range: it is left to do so.
        sizes = {axis: torch.export.Dim.AUTO(min=least, max=most) for axis, least, most in spec.free if others}
        return {0: batch, **sizes} if model.dynamic_batch and leaf.ndim else sizes

    shapes = pytree.tree_map(free, (args, kwargs))
    return shapes[0] if not kwargs else dict(shapes[1])


def fixed_sizes(model: TracedModel, program: torch.export.ExportedProgram, files: Iterable[str]) -> tuple[Remark, ...]:
    """Return a remark for each file that is made of a program and has a size fixed that the model leaves free."""
    holders = program.graph_signature.user_inputs
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    values = [nodes[name].meta["val"] for name in holders if name in nodes]
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    lost = [
        f"axis {free.axis} of {spec.name} ({spec.shape[free.axis]})"
        for spec, value in zip(model.inputs, tensors, strict=True)
        for free in spec.free
        if not isinstance(value.shape[free.axis], torch.SymInt)
    ]
    return _fixed(files, lost)


def fixed_by_compiling(model: TracedModel, file: str) -> tuple[Remark, ...]:
    """Return a remark for a file of compiled code, which has every size but the batch fixed."""
    lost = [f"axis {free.axis} of {spec.name} ({spec.shape[free.axis]})" for spec in model.inputs for free in spec.free]
    return _fixed((file,), lost)


def _fixed(files: Iterable[str], lost: Sequence[str]) -> tuple[Remark, ...]:
    """Return a remark for each file, if any axes are lost."""
    text = f"is fixed to the example's size of {', '.join(lost)}, which the model leaves free"
    return tuple(Remark(file, text) for file in files) if lost else ()


def _has_free_sizes(model: TracedModel) -> bool:
    """Say whether a size beside the batch is free."""
    return any(spec.free for spec in model.inputs)


def save_program(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write a ``.pt2`` file.

    It is made in memory first: on a full disk, torch's own writer ends the process.
    """
    content = io.BytesIO()
    with quiet():
        torch.export.save(program, content)
    path.write_bytes(content.getbuffer())
