"""A network while it becomes a Relax module: its tensors, where they lie, and calls of kernels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import tvm
from torch import fx
from tvm import relax

from smartc.ir.traced_model import layer_name
from smartc.kernels.inference.copies import copy_kernel
from smartc.kernels.inference.layout import Layout, plain, plain_strides
from smartc.kernels.inference.row_spacing import Spacing
from smartc.kernels.machine import Machine

# TVM's mark of a function that is not to be fused with others.
_OPAQUE = 8
# Elements of a constant up to which it is worth while to look for an equal one.
_SMALL = 1 << 16


@dataclass(frozen=True)
class Held:
    """A tensor of the network.

    Attributes:
        var: The buffer's Relax variable, in any shape of ``layout.size`` elements.
        layout: Where its elements lie in it.
        dtype: Type of the elements; kernels take float32 only.
    """

    var: Any
    layout: Layout
    dtype: str = "float32"


@dataclass
class Network:
    """What the rules share.

    Attributes:
        machine: The processor.
        weights: Every parameter, buffer and constant, by its node.
        spacings: How the rows of a map of pixels should lie, by node.
        dense: Layers whose zeros are computed like other weights.
        batch: Images.
        builder: Relax's.
        values: What is computed so far.
        layers: The user's name of the layer that each kernel computes.
        absorbed: Nodes that the kernel of an earlier node computes besides; nothing else reads them.
        copies: Tensors that were copied to another layout, so that no one is copied twice.
    """

    machine: Machine
    weights: Mapping[fx.Node, torch.Tensor]
    spacings: Mapping[fx.Node, Spacing]
    dense: Mapping[str, bool]
    builder: relax.BlockBuilder = field(default_factory=relax.BlockBuilder)
    values: dict[fx.Node, Any] = field(default_factory=dict)
    layers: dict[str, str] = field(default_factory=dict)
    absorbed: set[fx.Node] = field(default_factory=set)
    copies: dict[Any, Held] = field(default_factory=dict)
    _constants: dict[Any, Any] = field(default_factory=dict)

    def held(self, node: fx.Node) -> Held:
        """Return a node's tensor."""
        if node not in self.values:
            array = self.weights[node].detach().contiguous().numpy()
            self.values[node] = Held(relax.const(array), plain(array.shape), str(array.dtype))
        value: Held = self.values[node]
        return value

    def spacing(self, node: fx.Node) -> Spacing:
        """Return the spacing of the rows of a node's map, as its readers want it."""
        return self.spacings.get(node, Spacing())

    def array(self, node: object) -> np.ndarray[Any, Any] | None:
        """Return the value of a parameter or constant, None for what is computed or not there."""
        found = self.weights.get(node) if isinstance(node, fx.Node) else None
        return None if found is None else found.detach().contiguous().numpy()

    def name(self, node: fx.Node, part: str = "") -> str:
        """Return a new name for a kernel of a layer, and note which layer it is."""
        layer = layer_name(node)
        stem = re.sub(r"\W", "_", f"{layer}_{part}" if part else layer) or "kernel"
        stem = stem if stem[0].isalpha() else f"_{stem}"
        name, number = stem, 1
        while name in self.layers or name == "main":
            name, number = f"{stem}_{number}", number + 1
        self.layers[name] = layer
        return name

    def constant(self, array: np.ndarray[Any, Any]) -> Any:
        """Return a constant of the module; equal small ones are one."""
        array = np.ascontiguousarray(array)
        if array.size > _SMALL:
            return relax.const(array)
        key = (array.dtype.str, array.shape, array.tobytes())
        return self._constants.setdefault(key, relax.const(array))

    def call(self, name: str, kernel: Any, arguments: Sequence[Any], layout: Layout) -> Held:
        """Call a kernel on flat buffers and return what it computes."""
        kernel = kernel.with_attr({"global_symbol": name, "op_pattern": _OPAQUE})
        function = self.builder.add_func(kernel, name)
        flat = [self.flat(value) if isinstance(value, Held) else value for value in arguments]
        call = relax.call_tir(function, flat, relax.TensorType((layout.size,), "float32"))
        return Held(self.builder.emit(call), layout)

    def flat(self, held: Held) -> Any:
        """Return the buffer of a tensor with one axis."""
        return self._shaped(held.var, (held.layout.size,))

    def plain(self, held: Held, node: fx.Node | None = None) -> Held:
        """Return the tensor as NumPy would hold it, copied if need be; the node names the copy."""
        if held.layout.plain:
            return held
        key = (held.var, held.layout, "plain")
        if key not in self.copies:
            self.copies[key] = self.copied(held, plain(held.layout.shape), node)
        return self.copies[key]

    def copied(self, held: Held, target: Layout, node: fx.Node | None) -> Held:
        """Return a copy in another layout; what lies between its elements is not written."""
        name = self.name(node, "copy") if node is not None else self.builder.get_unique_name("copy")
        return self.call(name, copy_kernel(name, held.layout, target), [held], target)

    def var(self, node: fx.Node) -> Any:
        """Return a node's tensor as Relax's own operators take it."""
        held = self.plain(self.held(node), node)
        return self._shaped(held.var, held.layout.shape)

    def _shaped(self, var: Any, shape: tuple[int, ...]) -> Any:
        """Return a variable in another shape."""
        if tuple(int(size) for size in var.ty.shape) == shape:
            return var
        if isinstance(var, tvm.ir.GenericConst):
            return relax.const(var.value.numpy().reshape(shape))
        return self.builder.emit(relax.op.reshape(var, shape))

    def taken(self, var: Any) -> Held:
        """Return the tensor of a variable that Relax's own operators computed."""
        shape = tuple(int(size) for size in var.ty.shape)
        return Held(var, Layout(shape, plain_strides(shape), 0, int(np.prod(shape))), str(var.ty.dtype))


def sole_user(node: fx.Node) -> fx.Node | None:
    """Return the only reader of a node, None where there are none or several."""
    return next(iter(node.users)) if len(node.users) == 1 else None
