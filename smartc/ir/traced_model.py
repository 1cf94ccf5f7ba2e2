"""The one intermediate representation: an FX graph of ATen calls with the user's parameter names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from smartc.core.brief import brief
from smartc.ir.cast_literals import cast_literals, cast_value, follows
from smartc.ir.free_axis import FreeAxis
from smartc.ir.operators.operator import Operator
from smartc.ir.operators.table import operator_named
from smartc.ir.output_names import output_names

# Stands for the batch wherever a number is needed: a prime that no layer has as a size, so that
# a product with it can be told apart from channels.
BATCH_PRIME = 1009


class Remark(NamedTuple):
    """What a pass did, or why it left something alone."""

    where: str
    text: str
    changed: bool = False


@dataclass(frozen=True)
class Value:
    """What is known of one tensor in the graph.

    Attributes:
        shape: Sizes; BATCH_PRIME stands for the batch, and the example's for another size that is free.
        dtype: Element type.
        computed: The axes whose size depends on one that is free, so that no literal spells it out.
        free: Those of them whose size does not depend on the batch.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    computed: frozenset[int] = frozenset()
    free: frozenset[int] = frozenset()

    def resized(self, axis: int, size: int) -> Value:
        """Return the same with another size of one axis."""
        return replace(self, shape=(*self.shape[:axis], size, *self.shape[axis + 1 :]))

    @property
    def single(self) -> tuple[int, ...]:
        """Return the shape for a batch of one."""
        batched = self.computed - self.free
        return tuple(s // BATCH_PRIME if a in batched else s for a, s in enumerate(self.shape))


def sample_count(flat: tuple[Any, ...]) -> int:
    """Return the number of samples in flattened inputs; one where none of them tells."""
    return next((len(value) for value in flat if isinstance(value, torch.Tensor) and value.ndim), 1)


def arguments_of(node: fx.Node) -> tuple[Any, ...]:
    """Return a call's positional arguments, typed as Any: torch's own type is a union that fits no operator."""
    return node.args


def argument_of(node: fx.Node, place: int, name: str, default: Any = None) -> Any:
    """Return an argument that may be given by place or by name."""
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def value_of(node: fx.Node) -> Any:
    """Return the known facts of a node's output: a Value, a number, or a tuple of these."""
    return node.meta.get("value")


@dataclass(frozen=True)
class InputSpec:
    """One tensor input: ``None`` in the shape marks the batch; of ``free`` axes it holds the example's sizes."""

    name: str
    shape: tuple[int | None, ...]
    dtype: torch.dtype
    free: tuple[FreeAxis, ...] = ()

    def __str__(self) -> str:
        """Return for example ``x: float32 Nx3x224x224``."""
        sizes = "x".join("N" if size is None else str(size) for size in self.shape)
        return f"{self.name}: {str(self.dtype).removeprefix('torch.')} {sizes or 'scalar'}"


@dataclass(frozen=True)
class TracedModel:
    """A captured model: its graph, its inputs, and examples of them.

    Attributes:
        graph_module: ATen calls in training IR; parameters under the user's names.
        inputs: One entry per tensor input, in the flattened order of the user's arguments.
        examples: A value per graph input, in the same order; values of tensors matter only where
            they are integers (indices must stay in range).
        name: The class or file the model came from.
        aliases: For a tied tensor, every name that the user's ``state_dict`` has for it.
        state_names: All names in the user's ``state_dict``.
        remarks: What was noticed while the model was captured.
        outputs: What the user calls the outputs; empty where the model's own structure names them.
        untouched: The tensors that the user wants left alone, each with the reason.
        constants: For each tensor that was computed and stored by the compiler, the user's tensors that it came from.
    """

    graph_module: fx.GraphModule
    inputs: tuple[InputSpec, ...]
    examples: tuple[Any, ...]
    name: str
    aliases: Mapping[str, tuple[str, ...]]
    state_names: frozenset[str]
    remarks: tuple[Remark, ...] = ()
    outputs: tuple[str, ...] = ()
    untouched: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return in one line the name, the inputs and the size."""
        inputs = brief(", ".join(map(str, self.inputs)), 44)
        parameters = sum(tensor.numel() for tensor in self.graph_module.parameters())
        return f"TracedModel({brief(self.name)}({inputs}): {len(list(self.calls()))} calls, {parameters:,} parameters)"

    @property
    def graph(self) -> fx.Graph:
        """Return the FX graph."""
        return self.graph_module.graph

    @property
    def dynamic_batch(self) -> bool:
        """Return whether the batch is free; a static one is fixed to the example's."""
        return any(size is None for spec in self.inputs for size in spec.shape)

    @property
    def dtype(self) -> torch.dtype:
        """Return the floating type of the parameters, or of the inputs where there are none."""
        kinds = [tensor.dtype for name, tensor in self.graph_module.named_parameters() if name not in self.constants]
        kinds += [spec.dtype for spec in self.inputs]
        return next((kind for kind in kinds if kind.is_floating_point), torch.float32)

    def calls(self, *targets: Callable[..., Any]) -> Iterator[fx.Node]:
        """Yield the calls of the given operators in graph order; all calls where none is given."""
        for node in self.graph.nodes:
            if node.op == "call_function" and (not targets or node.target in targets):
                yield node

    def tensor(self, name: str) -> torch.Tensor:
        """Return the parameter or buffer of a dotted name, or of another name of the same tensor.

        Raises:
            ValueError: There is none.
        """
        for alias in (name, *self.names_of(name)):
            tensor = self._stored(alias)
            if tensor is not None:
                return tensor
        raise ValueError(f"the model has no tensor {name!r}")

    def _stored(self, name: str) -> Any:
        """Return the object of the graph module under a dotted name, None where there is none."""
        holder: Any = self.graph_module
        for part in name.split("."):
            holder = getattr(holder, part, None)
        return holder

    def names_of(self, name: str) -> tuple[str, ...]:
        """Return every name of a tensor in the user's ``state_dict``."""
        return self.aliases.get(name, (name,))

    def copy(self) -> TracedModel:
        """Return a model with a graph of its own; parameters share their storage."""
        graph = fx.Graph()
        mapping: dict[fx.Node, fx.Node] = {}
        result = graph.graph_copy(self.graph, mapping, return_output_node=True)
        if isinstance(result, tuple):
            output = graph.output(result[0])
            output.meta = dict(result[1].meta)
        graph.set_codegen(self.graph._codegen)
        return replace(self, graph_module=fx.GraphModule(self.graph_module, graph))

    def with_tensors(self, tensors: Mapping[str, torch.Tensor]) -> TracedModel:
        """Return a copy in which the named parameters and buffers have new values."""
        fresh = self.copy()
        for name, value in tensors.items():
            fresh.set_tensor(name, value)
        return fresh

    def set_tensor(self, name: str, value: torch.Tensor) -> None:
        """Put a new value in place of a tensor of this model under all of its names, keeping its kind."""
        old = self.tensor(name)
        if isinstance(old, nn.Parameter):
            value = nn.Parameter(value, requires_grad=old.requires_grad)
        for alias in {name, *self.names_of(name)}:
            holder, _, leaf = alias.rpartition(".")
            try:
                module = self.graph_module.get_submodule(holder)
            except AttributeError:
                continue
            if hasattr(module, leaf):
                setattr(module, leaf, value)

    def add_buffer(self, name: str, value: torch.Tensor) -> fx.Node:
        """Add a constant of the compiler's own and return a node that reads it."""
        holder, _, leaf = name.rpartition(".")
        self.graph_module.get_submodule(holder).register_buffer(leaf, value, persistent=False)
        node = self.graph.get_attr(name)
        node.meta["value"] = Value(tuple(value.shape), value.dtype)
        return node

    def to(self, dtype: torch.dtype) -> TracedModel:
        """Return a copy whose floating-point tensors have the given type; longer ones than the model's own stay."""
        # Modules that the graph calls, as masks are, are those of the copy too: their types change with its.
        own, state = self.dtype, dict(self.graph_module.named_parameters()) | dict(self.graph_module.named_buffers())
        cast = {name: t.detach().to(dtype) for name, t in state.items() if follows(t.dtype, own, dtype)}
        model = self.with_tensors(cast)
        examples = tuple(cast_value(value, dtype) for value in self.examples)
        inputs = tuple(replace(spec, dtype=dtype) if spec.dtype.is_floating_point else spec for spec in self.inputs)
        for node in model.calls():
            cast_literals(node, own, dtype)
        model.graph_module.recompile()
        return replace(model, examples=examples, inputs=inputs)

    @property
    def structure(self) -> pytree.TreeSpec:
        """Return the tree of the inputs in positional and keyword arguments."""
        spec: pytree.TreeSpec = self.graph._codegen.pytree_info.in_spec  # type: ignore[attr-defined]
        return spec

    @property
    def output_names(self) -> tuple[str, ...]:
        """Return a name for each output that is a tensor: the user's, or the keys and positions that lead to it."""
        return self.outputs or output_names(self.graph, [spec.name for spec in self.inputs])

    def arguments(self, flat: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return positional and keyword arguments made of flattened inputs."""
        args, kwargs = pytree.tree_unflatten(list(flat), self.structure)
        return args, kwargs

    def run(self, flat: tuple[Any, ...]) -> Any:
        """Run the model on flattened inputs, without gradients, and return its outputs; no tensor is overwritten."""
        buffers: dict[str, torch.Tensor] = {}
        if any(getattr(getattr(node.target, "_schema", None), "is_mutable", False) for node in self.calls()):
            flat = tuple(value.clone() if isinstance(value, torch.Tensor) else value for value in flat)
            buffers = {name: buffer.clone() for name, buffer in self.graph_module.named_buffers()}
        args, kwargs = self.arguments(flat)
        with torch.no_grad():
            return functional_call(self.graph_module, buffers, args, kwargs)

    def cleaned(self) -> TracedModel:
        """Drop what nothing reads, check the graph, compile it, and return the model."""
        self.graph.eliminate_dead_code()
        self.graph.lint()
        self.graph_module.recompile()
        self.graph_module.delete_all_unused_submodules()
        return self


def layer_name(node: fx.Node) -> str:
    """Return the user's name of a node: its module, and the operator if it is not alone in it."""
    stack = node.meta.get("nn_module_stack") or {}
    path, kind = next(reversed(stack.values()), ("", ""))
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    if path and kind.startswith("torch.nn.modules."):
        return path
    return f"{path}.{node.name}" if path else node.name


def storage_key(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Return a key that all names of one tensor share: the same memory, seen in the same way."""
    return tensor.data_ptr() if tensor.numel() else id(tensor), tuple(tensor.shape), tensor.stride(), tensor.dtype


def operator_name(target: Any) -> str:
    """Return the short name of an operator: ``aten.conv2d.default`` is ``conv2d``."""
    if hasattr(target, "overloadpacket"):
        return re.sub(r"^.*[.:]", "", str(target.overloadpacket))
    return getattr(target, "__name__", str(target))


def operator_of(node: fx.Node) -> Operator:
    """Return the row of the table for the operator that a node calls; an empty one where it calls none."""
    return operator_named(operator_name(node.target) if node.op == "call_function" else "")


def stored_name(node: fx.Node) -> str | None:
    """Return the name of the stored tensor that a node passes on as it is, or None."""
    # What the exporter puts around constants: not all that passes elements on is of a constant.
    while node.op == "call_function" and operator_name(node.target) in ("lift_fresh_copy", "lift_fresh", "detach"):
        node = node.args[0]  # type: ignore[assignment]
    return str(node.target) if node.op == "get_attr" else None
