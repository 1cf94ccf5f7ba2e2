"""Fold batch norms into the convolution or linear layer before them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import fx
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from smartc.ir.traced_model import Remark, TracedModel, argument_of, arguments_of, layer_name, operator_of
from smartc.passes.shared.base import PassResult
from smartc.passes.shared.new_tensor import new_tensor


@dataclass(frozen=True)
class FoldBatchNorm:
    """Replace ``batch_norm(conv(x))`` by one convolution, where nothing else reads ``conv(x)``."""

    name: ClassVar[str] = "fold-batch-norm"

    def run(self, model: TracedModel) -> PassResult:
        """Return the model with as few batch norms as can be folded exactly."""
        folded = model.copy()
        norms = [node for node in folded.calls() if operator_of(node).name == "batch_norm"]
        remarks = [_fold(folded, norm) for norm in norms]
        return PassResult(folded.cleaned(), tuple(remarks))


def _fold(model: TracedModel, norm: fx.Node) -> Remark:
    """Fold one normalisation in place, or say why not."""
    place = layer_name(norm)
    producer = arguments_of(norm)[0]
    if not isinstance(producer, fx.Node) or not operator_of(producer).is_layer:
        return Remark(place, f"its input {producer} is no convolution or linear layer")
    if len(producer.users) > 1:
        return Remark(place, f"{producer} has {len(producer.users)} readers")
    if arguments_of(norm)[5]:
        return Remark(place, "it takes statistics from the batch")
    if not all(
        isinstance(arg, fx.Node) and arg.op == "get_attr"
        for arg in (arguments_of(producer)[1], *arguments_of(norm)[3:5])
    ):
        return Remark(place, "its parameters are computed")
    if not operator_of(producer).is_convolution and len(producer.meta["value"].shape) != 2:
        return Remark(place, "its channels are not those of the linear layer")
    weight, bias = _folded_tensors(model, producer, norm)
    _write(model, producer, weight, bias)
    norm.replace_all_uses_with(producer)
    return Remark(place, f"folded into {layer_name(producer)}", changed=True)


def _folded_tensors(model: TracedModel, producer: fx.Node, norm: fx.Node) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weight and bias that compute both."""
    gamma, beta, mean, variance = (_tensor(model, arg) for arg in arguments_of(norm)[1:5])
    assert mean is not None
    assert variance is not None
    weight = _tensor(model, arguments_of(producer)[1])
    assert weight is not None
    bias = _tensor(model, argument_of(producer, 2, "bias"))
    eps = arguments_of(norm)[7]
    if not operator_of(producer).is_convolution:
        ones, zeros = torch.ones_like(mean), torch.zeros_like(mean)
        gamma, beta = ones if gamma is None else gamma, zeros if beta is None else beta
        fused = fuse_linear_bn_weights(weight, bias, mean, variance, eps, gamma, beta)
        return fused[0].detach(), fused[1].detach()
    stored = operator_of(producer).weight
    transposed = stored is not None and stored.transposed
    groups = argument_of(producer, 6, "groups", 1)
    if transposed and groups != 1:
        return _folded_grouped(weight, bias, (gamma, beta, mean, variance), eps, groups)
    fused = fuse_conv_bn_weights(weight, bias, mean, variance, eps, gamma, beta, transpose=transposed)
    return fused[0].detach(), fused[1].detach()


def _folded_grouped(
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    norm: tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor, torch.Tensor],
    eps: float,
    groups: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fold into a grouped transposed convolution, weight (in, out // groups, *kernel)."""
    gamma, beta, mean, variance = norm
    scale = (1 if gamma is None else gamma) / torch.sqrt(variance + eps)
    # The rows of a group share the scales of its outputs.
    rows = scale.reshape(groups, -1).repeat_interleave(len(weight) // groups, dim=0)
    shift = -mean if bias is None else bias - mean
    folded = shift * scale + (0 if beta is None else beta)
    return (weight * rows.reshape(*rows.shape, *[1] * (weight.ndim - 2))).detach(), folded.detach()


def _write(model: TracedModel, producer: fx.Node, weight: torch.Tensor, bias: torch.Tensor) -> None:
    """Give a call a weight and a bias of its own, named as the user's layer names them."""
    place = str(arguments_of(producer)[1].target).rpartition(".")[0]
    prefix = f"{place}." if place else ""
    old = (arguments_of(producer)[1], argument_of(producer, 2, "bias"))
    names = [str(node.target) if isinstance(node, fx.Node) else f"{prefix}bias" for node in old]
    with model.graph.inserting_before(producer):
        nodes = [
            _constant(model, name, node, value) for name, node, value in zip(names, old, (weight, bias), strict=True)
        ]
    producer.args = (arguments_of(producer)[0], *nodes, *arguments_of(producer)[3:])


def _constant(model: TracedModel, name: str, old: object, value: torch.Tensor) -> fx.Node:
    """Return a node that reads a new value: under the old name if nothing else reads that, else beside it."""
    alone = isinstance(old, fx.Node) and len(old.users) == 1 and model.names_of(name) == (name,)
    if alone and isinstance(old, fx.Node):
        model.set_tensor(name, value)
        return old
    return new_tensor(model, name, value)


def _tensor(model: TracedModel, node: object) -> torch.Tensor | None:
    """Return the value of a parameter node."""
    return model.tensor(str(node.target)).detach() if isinstance(node, fx.Node) else None
