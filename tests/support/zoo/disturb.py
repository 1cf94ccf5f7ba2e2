"""Give a freshly built network the uneven numbers of a trained one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd


@torch.no_grad()
def disturb(module: nn.Module, seed: int, fresh: bool = True) -> None:
    """Fill norms, biases and other vectors of a module, in place, with uneven random numbers.

    A new batch norm is the identity and a new bias often zero, and so hides faults: a channel
    that is removed from the wrong place would go unseen.

    Args:
        module: What to change.
        seed: Decides all numbers.
        fresh: Weights and running statistics are as PyTorch made them, so that weights are too
            small and means zero; otherwise they are only varied.
    """
    generator = torch.Generator().manual_seed(seed)
    for child in module.modules():
        if isinstance(child, _NormBase) and child.running_mean is not None:
            _vary_statistics(child, generator)
        if fresh and isinstance(child, (_ConvNd, nn.Linear)) and "weight" in child._parameters:
            _widen(child.weight)
    for parameter in module.parameters():
        if parameter.ndim <= 1 or _is_constant(parameter):
            _shift(parameter, generator)


def _vary_statistics(norm: _NormBase, generator: torch.Generator) -> None:
    """Move means by a part of the deviation, and scale variances by 0.4 to 1.6."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    noise = torch.randn(norm.running_mean.shape, generator=generator)
    norm.running_mean.add_(0.3 * noise * norm.running_var.sqrt())
    norm.running_var.mul_(0.4 + 1.2 * torch.rand(norm.running_var.shape, generator=generator))


def _widen(weight: Tensor) -> None:
    """Double a weight that PyTorch made too small to keep a signal through many layers."""
    weight.mul_(2.2)


def _shift(parameter: Tensor, generator: torch.Generator) -> None:
    """Add normal noise, small beside the 1 of a scale and the 0 of a bias."""
    noise = torch.randn(parameter.shape, generator=generator)
    parameter.add_(0.25 * noise.to(parameter.dtype))


def _is_constant(parameter: Tensor) -> bool:
    """Return whether all elements are equal, as in a scale of ones or a position table of zeros."""
    return bool((parameter == parameter.flatten()[0]).all())
