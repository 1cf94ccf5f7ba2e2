"""The networks of the benchmark: small residual networks of three stages."""

from __future__ import annotations

import torch
from torch import nn

# Basic blocks per stage.
NETWORKS = {"resnet8": 1, "resnet20": 3}
WIDTHS = (16, 32, 64)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        """Make the layers."""
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output."""
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """A residual network for small images.

    Source: He et al., arXiv 1512.03385, section 4.2; shortcuts are projections.
    """

    def __init__(self, blocks: int, channels: int, classes: int) -> None:
        """Make the layers: ``blocks`` per stage, for images of so many channels."""
        super().__init__()
        self.conv = nn.Conv2d(channels, WIDTHS[0], 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(WIDTHS[0])
        stages = []
        inputs = WIDTHS[0]
        for width in WIDTHS:
            stride = 1 if width == inputs else 2
            first = BasicBlock(inputs, width, stride)
            stages.append(nn.Sequential(first, *(BasicBlock(width, width, 1) for _ in range(blocks - 1))))
            inputs = width
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, shape (N, classes), of images (N, channels, H, W)."""
        y = self.stages(torch.relu(self.bn(self.conv(x))))
        return self.fc(y.mean(dim=(2, 3)))


def build_network(name: str, channels: int, classes: int, seed: int) -> ResNet:
    """Return an untrained network; the seed tells its weights."""
    torch.manual_seed(seed)
    return ResNet(NETWORKS[name], channels, classes)
