"""Lower a TracedModel to ONNX: batch norms folded, the user's layer names on the nodes."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as graphsurgeon
import onnxruntime
import torch

from smartc.core.errors import Argument, UserError, first_line
from smartc.core.quiet import quiet
from smartc.ir.traced_model import TracedModel
from smartc.ir.whole_recurrences import whole_recurrences
from smartc.lowering.onnx_recurrences import fold_weights, recurrence_translations
from smartc.lowering.packed_initializers import pack_initializers

# The oldest opset that has every operator torch.onnx emits for ATen graphs.
OPSET = 20
# protobuf writes no message of 2 GiB; the graph beside the weights needs some room.
LARGEST_BYTES = 2**31 - 2**25
# Smaller weights stay in the model: shapes and axes are read while it is loaded.
LEAST_APART = 1024
# Where each weight begins is a multiple of a page, so that runtimes can map the file.
ALIGNED = 4096
DATA_FILE = "model.onnx.data"
# What the free axis of every input is called.
BATCH_NAME = "batch"
_SCOPES = "pkg.torch.onnx.name_scopes"


def to_onnx(
    model: TracedModel,
    program: torch.export.ExportedProgram,
    metadata: Mapping[str, str],
    *,
    tile: tuple[int, int] | None = None,
) -> onnx.ModelProto:
    """Return the ONNX model of an exported program.

    Args:
        model: The program's source; names the inputs.
        program: In float32, as to_program gives it.
        metadata: Goes into the model's properties under ``smartc.``.
        tile: Output and input channels of the tiles as which weights with zeros are stored; None stores
            every weight whole.

    Raises:
        UserError: ONNX has no form for an operator of the model.
    """
    graph = _exported(model, program)
    names = _node_names(graph)
    cleaned = _cleaned(graph)
    for node in cleaned.graph.node:
        node.name = names.get(node.output[0], node.name)
        del node.metadata_props[:]
    for value in (
        *cleaned.graph.input,
        *cleaned.graph.output,
        *cleaned.graph.value_info,
        *cleaned.graph.initializer,
    ):
        del value.metadata_props[:]
    if model.dynamic_batch:
        _name_batch(cleaned)
    if tile is not None:
        pack_initializers(cleaned, tile)
    onnx.helper.set_model_props(cleaned, {f"smartc.{key}": value for key, value in metadata.items()})
    cleaned.producer_name, cleaned.producer_version = "smartc", metadata["version"]
    if weight_bytes(cleaned) <= LARGEST_BYTES:
        onnx.checker.check_model(cleaned, full_check=True)
    return cleaned


def weight_bytes(model: onnx.ModelProto) -> int:
    """Return the bytes of all weights."""
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


def take_weights(model: onnx.ModelProto) -> list[bytes] | None:
    """Take large weights out of a model that is too large for one file, and return the content of another, in parts.

    The model then says where in ``DATA_FILE`` each lies.  Of a model that fits into one file, None.
    """
    if weight_bytes(model) <= LARGEST_BYTES:
        return None
    parts: list[bytes] = []
    offset = 0
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) < LEAST_APART:
            continue
        parts += [tensor.raw_data, bytes(-len(tensor.raw_data) % ALIGNED)]
        onnx.external_data_helper.set_external_data(tensor, DATA_FILE, offset, len(tensor.raw_data))
        offset += len(parts[-2]) + len(parts[-1])
        tensor.ClearField("raw_data")
    return parts


def _exported(model: TracedModel, program: torch.export.ExportedProgram) -> onnx.ModelProto:
    """Return what PyTorch makes of a program."""
    try:
        with quiet(), whole_recurrences():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                optimize=True,
                verbose=False,
                output_names=model.output_names,
                custom_translation_table=recurrence_translations(),
            )
            assert exported is not None
            fold_weights(exported.model)
    except Exception as error:
        raise UserError(
            f"ONNX cannot express it: {_root_cause(error)}",
            where=model.name,
            fix=("Leave onnx out of ", Argument("backends"), "; model.pt2 has the same network"),
        ) from error
    return exported.model_proto


def _name_batch(model: onnx.ModelProto) -> None:
    """Call the free size of axis 0 by what it is, wherever the exporter's symbol for it stands."""
    dims = (value.type.tensor_type.shape.dim for value in model.graph.input)
    symbol = next((sizes[0].dim_param for sizes in dims if sizes and sizes[0].dim_param), "")
    if not re.fullmatch(r"\w+", symbol):
        return
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = re.sub(rf"\b{symbol}\b", BATCH_NAME, size.dim_param)


def _root_cause(error: BaseException) -> str:
    """Return the first line of the error that began a chain: the exporter wraps it in advice on itself."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


def check_onnx(file: Path) -> None:
    """Check a file with onnx's own checker.

    Raises:
        UserError: It is no valid ONNX model.
    """
    try:
        onnx.checker.check_model(str(file), full_check=True)
    except Exception as error:
        raise UserError(
            f"not a valid ONNX model: {str(error).splitlines()[0]}",
            where=str(file),
            fix="Compile the model again",
        ) from error


def _cleaned(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model without what nothing reads, in topological order."""
    graph = graphsurgeon.import_onnx(model)
    graph.cleanup(remove_unused_graph_inputs=False).toposort()
    cleaned: onnx.ModelProto = graphsurgeon.export_onnx(graph)
    cleaned.ir_version = model.ir_version
    return cleaned


def _node_names(model: onnx.ModelProto) -> dict[str, str]:
    """Return for each node, by its first output, the user's layer name and the operator, made unique."""
    weights = {tensor.name for tensor in model.graph.initializer}
    names: dict[str, str] = {}
    used: dict[str, int] = {}
    for node in model.graph.node:
        name = f"{_layer_of(node, weights)}/{node.op_type}".lstrip("/")
        used[name] = used.get(name, 0) + 1
        names[node.output[0]] = name if used[name] == 1 else f"{name}#{used[name]}"
    return names


def _layer_of(node: onnx.NodeProto, weights: set[str]) -> str:
    """Return the layer of a node: that of its weight, or the innermost module it was traced in."""
    for name in node.input[1:2]:
        if name in weights and name.endswith(".weight"):
            return name.removesuffix(".weight")
    text = next((prop.value for prop in node.metadata_props if prop.key == _SCOPES), "[]")
    scopes = [str(scope) for scope in ast.literal_eval(text)]
    return re.sub(r"[^\w.]", "_", scopes[-2]) if len(scopes) > 1 else ""


class OnnxSession:
    """Runs an ONNX model in ONNX Runtime."""

    def __init__(self, source: bytes | str, name: str) -> None:
        """Load a model's content, or the file of one.

        Raises:
            UserError: ONNX Runtime has no kernel for an operator.
        """
        options = onnxruntime.SessionOptions()
        options.enable_cpu_mem_arena = False  # what one run took would be kept until the end
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise UserError(
                f"ONNX Runtime refuses it: {str(error).splitlines()[0]}",
                where=name,
                fix=("Leave onnx out of ", Argument("backends"), "; model.pt2 has the same network"),
            ) from error

    def run(self, flat: tuple[Any, ...]) -> list[np.ndarray[Any, Any]]:
        """Return the outputs for flattened inputs in the model's order."""
        values = [leaf for leaf in flat if isinstance(leaf, torch.Tensor)]
        inputs = self.session.get_inputs()
        feeds = {spec.name: value.detach().numpy() for spec, value in zip(inputs, values, strict=True)}
        outputs: list[np.ndarray[Any, Any]] = self.session.run(None, feeds)
        return outputs
