"""Weights that the forward computes from parameters."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.blocks import IMAGE, classifier, conv_norm
from tests.support.zoo.registry import case


@case("weight_rounded_to_levels", (24,))
class RoundedWeight(nn.Module):
    """A weight on a grid of levels, as trainers that know of quantisation compute it: zero stays zero."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(24, 48), nn.Linear(48, 8)

    def forward(self, x: Tensor) -> Tensor:
        levels = torch.round(torch.clamp(self.second.weight / 0.01, -127, 127)) * 0.01
        bounded = F.hardtanh(levels, -0.5, 0.5).clamp_min(-0.4).clamp_max(0.4)
        return F.linear(torch.relu(self.first(x)), bounded, self.second.bias)


@case("weight_bounded_away_from_zero", (24,))
class BoundedAwayWeight(nn.Module):
    """A weight that is at least a number above zero: what reads removed channels cannot be made zero."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(24, 48), nn.Linear(48, 8)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.relu(self.first(x)), self.second.weight.clamp(min=0.01), self.second.bias)


@case("complex_parameter", (16,))
class ComplexParameter(nn.Module):
    """A filter in the frequency domain behind two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 48), nn.Linear(48, 16)
        self.filter = nn.Parameter(torch.randn(16, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.fft(self.second(torch.relu(self.first(x)))) * self.filter
        return torch.fft.ifft(spectrum).real


@case("weight_made_of_parameters", IMAGE)
class MadeWeight(nn.Module):
    """A convolution weight computed in the forward from two low-rank factors and a mask buffer."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, 32)
        self.left, self.right = nn.Parameter(torch.randn(40, 8) / 3), nn.Parameter(torch.randn(8, 32) / 6)
        self.register_buffer("mask", (torch.rand(40, 32) > 0.3).float())
        self.tail = nn.Sequential(conv_norm(40, 24), classifier(24))

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.left @ self.right) * self.mask
        return self.tail(F.conv2d(self.stem(x), weight[:, :, None, None]))
