"""The channels of the demo network that only leave together: their norms, their penalty, their masking."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from residual_cnn import ResidualCNN
from torch import Tensor, nn

PENALISED_SHARE = 0.5
FREE_FROM_SHARE = 0.7


@dataclass(frozen=True)
class ChannelGroup:
    """Layers that write the same channels, several where a residual sum ties them, and their readers."""

    producers: tuple[tuple[nn.Conv2d, nn.BatchNorm2d], ...]
    readers: tuple[nn.Conv2d | nn.Linear, ...]

    @property
    def channels(self) -> int:
        """Count the group's channels."""
        return self.producers[0][1].num_features

    def scales(self) -> Tensor:
        """Return every batch-norm weight and bias, shape (2 * producers, channels)."""
        return torch.stack([scale for _, norm in self.producers for scale in (norm.weight, norm.bias)])

    def squared_norms(self) -> Tensor:
        """Return each channel's squared filter norm after batch-norm folding, summed over the producers."""
        return sum((_folded_squares(conv, norm) for conv, norm in self.producers), torch.zeros(()))


def _folded_squares(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """Return the squared norm of each output filter, batch norm folded in, shape (channels,)."""
    assert norm.running_var is not None
    gain = norm.weight.detach().square() / (norm.running_var + norm.eps)
    return gain * conv.weight.detach().square().sum((1, 2, 3))


def channel_groups(model: ResidualCNN) -> tuple[ChannelGroup, ...]:
    """List the removable channels: three residual streams and the inner channels of three blocks."""
    blocks = (model.stage1, model.stage2, model.stage3)
    stem, enter2, enter3 = (_leading_pair(part) for part in (model.stem, model.stage2.shortcut, model.stage3.shortcut))
    own1, own2, own3 = ((block.conv2, block.bn2) for block in blocks)
    return (
        ChannelGroup((stem, own1), (model.stage1.conv1, model.stage2.conv1, enter2[0])),
        ChannelGroup((enter2, own2), (model.stage3.conv1, enter3[0])),
        ChannelGroup((enter3, own3), (model.classifier,)),
        *(ChannelGroup(((block.conv1, block.bn1),), (block.conv2,)) for block in blocks),
    )


def _leading_pair(layers: nn.Sequential) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    conv, norm = layers[0], layers[1]
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return conv, norm


@torch.no_grad()
def shrink_scales(groups: tuple[ChannelGroup, ...], amount: float) -> None:
    """Take one proximal step of a trimmed group lasso on batch-norm weights and biases, in place.

    The penalty is full on the PENALISED_SHARE of each group's channels with the smallest scales, falls
    to nothing at FREE_FROM_SHARE, and leaves the rest alone.  A channel whose norm is under its threshold
    becomes zero and, momentum spent, stays so: its activation is relu(0), which passes no gradient.  The
    threshold grows as groups get narrower or gain producers, which evens out how fast their channels vanish.

    Args:
        groups: The groups whose channels are penalised.
        amount: Learning rate times penalty.
    """
    widest = max(group.channels for group in groups)
    for group in groups:
        norms = group.scales().norm(dim=0)
        rank = norms.argsort(stable=True).argsort() / group.channels
        strength = ((FREE_FROM_SHARE - rank) / (FREE_FROM_SHARE - PENALISED_SHARE)).clamp(0, 1)
        threshold = amount * (len(group.producers) * widest / group.channels) ** 0.5 * strength
        keep = (1 - threshold / norms.clamp_min(1e-12)).clamp_min(0)
        for _, norm in group.producers:
            norm.weight.mul_(keep)
            norm.bias.mul_(keep)


@torch.no_grad()
def without_smallest(model: ResidualCNN, share: float) -> ResidualCNN:
    """Return a copy in which the given share of each group's channels, smallest first, is not read."""
    masked = copy.deepcopy(model)
    for group in channel_groups(masked):
        removed = group.squared_norms().argsort()[: round(share * group.channels)]
        for reader in group.readers:
            reader.weight[:, removed] = 0
    return masked
