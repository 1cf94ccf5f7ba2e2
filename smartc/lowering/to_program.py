"""Lower a TracedModel to an exported program, the content of a ``.pt2`` file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from smartc.core.errors import InternalError
from smartc.core.quiet import quiet
from smartc.ir.traced_model import TracedModel
from smartc.proof.reference import seeded_inputs


def to_program(model: TracedModel) -> torch.export.ExportedProgram:
    """Return the exported program of a model, with the batch free if the model's is.

    Raises:
        InternalError: torch.export refuses what it gave us before.
    """
    args, kwargs = model.arguments(seeded_inputs(model, batch=2))
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(
                model.graph_module,
                args,
                kwargs,
                dynamic_shapes=dynamic_shapes(model, args, kwargs),
                strict=False,
            )
    except Exception as error:
        raise InternalError(f"torch.export refuses the compiled graph: {error}", where=model.name) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def dynamic_shapes(model: TracedModel, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return which axes are free, in the structure that torch.export wants."""
    if not model.dynamic_batch:
        return None
    batch = torch.export.Dim("batch", min=1)
    shapes = pytree.tree_map(
        lambda leaf: {0: batch} if isinstance(leaf, torch.Tensor) and leaf.ndim else None, (args, kwargs)
    )
    return shapes[0] if not kwargs else dict(shapes[1])


def save_program(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write a ``.pt2`` file.

    It is made in memory first: on a full disk, torch's own writer ends the process.
    """
    content = io.BytesIO()
    with quiet():
        torch.export.save(program, content)
    path.write_bytes(content.getbuffer())
