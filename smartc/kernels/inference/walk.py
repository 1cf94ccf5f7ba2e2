"""Walk an exported program: hot operators become calls of our kernels, the rest takes TVM's own lowering."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import tvm
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from tvm import relax
from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

from smartc.core.errors import Argument, UserError
from smartc.ir.traced_model import arguments_of, layer_name, operator_name, operator_of
from smartc.kernels.inference import (
    attention_rules,
    convolution_rules,
    linear_rules,
    pointwise_rules,
    product_rules,
    transposed_rules,
    view_rules,
)
from smartc.kernels.inference.layout import plain
from smartc.kernels.inference.network import Held, Network
from smartc.kernels.inference.row_spacing import choose_spacings
from smartc.kernels.inference.rules import rule_of
from smartc.kernels.inference.windows import shape_of
from smartc.kernels.machine import Machine

__all__ = [
    "attention_rules",
    "convolution_rules",
    "linear_rules",
    "pointwise_rules",
    "product_rules",
    "relax_module",
    "transposed_rules",
    "view_rules",
]


def relax_module(
    program: ExportedProgram, machine: Machine, dense: Mapping[str, bool]
) -> tuple[tvm.IRModule, dict[str, str]]:
    """Return the module of a program with static shapes, and the user's layer of each kernel.

    Raises:
        UserError: TVM has no form for an operator.
    """
    weights, inputs = _stored(program)
    network = Network(machine, weights, choose_spacings(program.graph, machine), dense)
    importer = _Importer(network)
    for node in program.graph.nodes:
        # Before anything is built: TVM complains of what is left half built.
        if node.op == "call_function" and rule_of(operator_name(node.target)) is None:
            importer.rule_for(node)
    parameters = [_input(network, node) for node in inputs]
    builder = network.builder
    with builder.function("main", parameters):
        with builder.dataflow():
            for node in program.graph.nodes:
                if node.op == "call_function" and node not in network.values and node not in network.absorbed:
                    _lower(network, importer, node)
            result = builder.emit_output(relax.Tuple([network.var(node) for node in _outputs(program)]))
        builder.emit_func_output(result)
    return builder.get(), network.layers


def _stored(program: ExportedProgram) -> tuple[dict[fx.Node, torch.Tensor], list[fx.Node]]:
    """Return the stored tensors of a program by node, and the nodes of its inputs."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    stored: dict[str, Any] = {**program.state_dict, **program.constants}
    weights: dict[fx.Node, torch.Tensor] = {}
    inputs: list[fx.Node] = []
    for spec in program.graph_signature.input_specs:
        node = nodes[spec.arg.name]
        if spec.kind is not InputKind.USER_INPUT:
            weights[node] = stored[str(spec.target)]
        elif isinstance(node.meta.get("val"), torch.Tensor):
            inputs.append(node)
    return weights, inputs


def _input(network: Network, node: fx.Node) -> Any:
    """Return the variable of a model input."""
    shape, dtype = shape_of(node), str(node.meta["val"].dtype).removeprefix("torch.")
    var = relax.Var(node.name, relax.TensorType(shape, dtype))
    network.values[node] = Held(var, plain(shape), dtype)
    return var


def _outputs(program: ExportedProgram) -> list[fx.Node]:
    """Return the tensors that a program returns."""
    output = next(node for node in program.graph.nodes if node.op == "output")
    return [node for node in arguments_of(output)[0] if isinstance(node, fx.Node)]


def _lower(network: Network, importer: _Importer, node: fx.Node) -> None:
    """Compute one node by our rule for it, or by TVM's."""
    own = rule_of(operator_name(node.target))
    if own is None or not own(network, node):
        importer.lower(node)


class _Importer(ExportedProgramImporter):
    """TVM's own rules for ATen operators, on the tensors of our network."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.block_builder = network.builder

    def lower(self, node: fx.Node) -> None:
        """Compute a node by TVM's rule.

        Raises:
            UserError: There is none, or it cannot express this call.
        """
        convert = self.rule_for(node)
        for other in node.all_input_nodes:
            value = self.network.values.get(other)
            self.env[other] = value if isinstance(value, tuple) else self.network.var(other)
        try:
            value = convert(node)
        except Exception as error:
            reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise _refusal(node, f"TVM cannot express {_name(node)}: {reason[0]}") from error
        self.network.values[node] = self._taken(value)

    def rule_for(self, node: fx.Node) -> Any:
        """Return TVM's rule for a node.

        Raises:
            UserError: There is none.
        """
        convert = self.convert_map.get(getattr(node.target, "__name__", _name(node)))
        if convert is None and operator_of(node).family == "cast":
            return self._cast  # to another device is to the same one, of another type perhaps
        if convert is None:
            raise _refusal(node, f"TVM has no form for the operator {_name(node)}")
        return convert

    def _cast(self, node: fx.Node) -> Any:
        """Return a tensor in the type that a node's values have."""
        dtype = str(node.meta["val"].dtype).removeprefix("torch.")
        return self.block_builder.emit(relax.op.astype(self.env[arguments_of(node)[0]], dtype))

    def _taken(self, value: Any) -> Any:
        """Return the tensors of the network for the result of one of TVM's rules."""
        if isinstance(value, list | tuple | relax.Tuple):
            return tuple(self._taken(part) for part in value)
        if isinstance(value, relax.Expr) and isinstance(value.ty, relax.TupleType):
            parts = [self.block_builder.emit(relax.TupleGetItem(value, i)) for i in range(len(value.ty.fields))]
            return tuple(self._taken(part) for part in parts)
        return self.network.taken(value)


def _name(node: fx.Node) -> str:
    """Return an operator's name as TVM's rules have it."""
    return str(node.target).removeprefix("aten.")


def _refusal(node: fx.Node, fact: str) -> UserError:
    """Return the error for an operator that TVM lacks."""
    return UserError(
        fact,
        where=layer_name(node),
        fix=("Leave tvm out of ", Argument("backends"), "; model.pt2 has the same network"),
    )
