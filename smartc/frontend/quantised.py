"""Refuse models that are quantised, or prepared for it: channels are removed from a network in floating point."""

from __future__ import annotations

import torch
from torch import nn

from smartc.core.errors import UserError

# Modules of these packages compute on whole numbers, or as if they did, or take statistics for it.
_QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.ao.nn.sparse.quantized")
_PREPARED = (
    "torch.ao.quantization.fake_quantize",
    "torch.ao.quantization.observer",
    "torch.ao.nn.qat",
    "torch.ao.nn.intrinsic.qat",
    "torchao.quantization.qat",
)
_NAMESPACES = ("quantized", "quantized_decomposed")
_FIX = "Give the model as it was in floating point, and quantise what smartc writes"


def refuse_quantised(module: nn.Module, name: str) -> None:
    """Raise if a module is quantised, or prepared for it.

    Raises:
        UserError: It is.
    """
    for place, child in module.named_modules():
        kind, home = type(child).__name__, type(child).__module__
        if home.startswith(_QUANTISED):
            raise UserError(f"it is quantised ({place or name} is a {kind} of {home})", where=name, fix=_FIX)
        if home.startswith(_PREPARED):
            raise UserError(f"it is prepared for quantisation ({place or name} is a {kind})", where=name, fix=_FIX)


def refuse_quantised_graph(graph: torch.fx.Graph, name: str) -> None:
    """Raise if a graph calls operators of quantised networks.

    Raises:
        UserError: It does.
    """
    for node in graph.nodes:
        target = str(node.target)
        if node.op == "call_function" and (target.startswith(_NAMESPACES) or "fake_quant" in target):
            raise UserError(f"it is quantised, or prepared for it (it calls {target})", where=name, fix=_FIX)
