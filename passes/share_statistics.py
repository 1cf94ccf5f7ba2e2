"""Batch norm over the samples of all processes, so that a batch may be cut among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import distributed
from torch.distributed.nn.functional import all_reduce

from smartc.ir.traced_model import Remark, TracedModel, arguments_of, layer_name, operator_name
from smartc.passes.shared.base import PassResult


@dataclass(frozen=True)
class ShareStatistics:
    """Let every batch norm in training take its statistics from the samples of all processes.

    torch.nn.SyncBatchNorm does the same, but on GPUs only.
    """

    name: ClassVar[str] = "share-statistics"

    def run(self, model: TracedModel) -> PassResult:
        """Return the model with shared statistics."""
        shared = model.copy()
        remarks = []
        for node in shared.calls():
            if operator_name(node.target) == "batch_norm" and arguments_of(node)[5]:
                node.target = shared_batch_norm
                remarks.append(Remark(layer_name(node), "takes its statistics from all processes", changed=True))
        return PassResult(shared.cleaned(), tuple(remarks))


def shared_batch_norm(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn: bool,
) -> torch.Tensor:
    """Return the output of aten.batch_norm in training, with the statistics of the samples of all processes together.

    Args:
        x: Shape (N, C, ...), as many samples in every process.
        weight: Shape (C,), or None.
        bias: Likewise.
        running_mean: Shape (C,), updated in place, or None.
        running_var: Likewise.
        training: Whether the module is in training; if not, the running statistics serve.
        momentum: Of the running statistics.
        eps: Added to the variance.
        cudnn: Ignored.
    """
    if not training:
        evaluated: torch.Tensor = torch.ops.aten.batch_norm(
            x, weight, bias, running_mean, running_var, False, momentum, eps, cudnn
        )
        return evaluated
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    axes = [axis for axis in range(x.ndim) if axis != 1]
    count = x.numel() // x.shape[1] * distributed.get_world_size()
    mean = all_reduce(wide.sum(axes)) / count
    shape = [1, -1] + [1] * (x.ndim - 2)
    centred = wide - mean.reshape(shape)
    variance = all_reduce((centred * centred).sum(axes)) / count
    with torch.no_grad():
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean), momentum)
            running_var.lerp_((variance * count / max(count - 1, 1)).to(running_var), momentum)
    scale = torch.rsqrt(variance + eps) if weight is None else torch.rsqrt(variance + eps) * weight
    scaled = centred * scale.reshape(shape)
    return (scaled if bias is None else scaled + bias.reshape(shape)).to(x.dtype)
