"""The optimizer of the weights: Adam in steps relative to each tensor's own size, so that no rate needs tuning."""

from __future__ import annotations

import math

import torch
from torch import nn

# What a tensor of next to nothing, such as a bias that starts at zero, is taken to be in size.
SMALLEST = 1e-2
# Steps over which the rate rises, as part of all.
RISE = 0.05


def weight_optimizer(model: nn.Module, without: set[str], rate: float) -> torch.optim.Optimizer:
    """Return Adam over all parameters but some, each with a rate relative to its size.

    Args:
        model: Holds the parameters.
        without: The names of those to leave out.
        rate: A step moves a tensor by at most about this part of its root mean square.

    Source: the relative step of Adafactor, arXiv 1804.04235.
    """
    groups = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and name not in without:
            size = float(parameter.detach().float().square().mean().sqrt()) if parameter.numel() else 0.0
            relative = rate * max(size, SMALLEST)
            groups.append({"params": [parameter], "lr": relative, "relative": relative})
    # Adam refuses to be built without parameters; a model may have none that learn.
    groups = groups or [{"params": [torch.zeros(())], "lr": 0.0, "relative": 0.0}]
    return torch.optim.Adam(groups, betas=(0.9, 0.99))


def set_rate(optimizer: torch.optim.Optimizer, step: int, steps: int) -> None:
    """Let the rate rise at first and then fall to nothing along a cosine."""
    rise = max(RISE * steps, 1.0)
    share = min((step + 1) / rise, 1.0) * 0.5 * (1 + math.cos(math.pi * min(step / max(steps, 1), 1.0)))
    for group in optimizer.param_groups:
        group["lr"] = group["relative"] * share
