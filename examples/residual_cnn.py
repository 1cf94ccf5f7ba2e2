"""The demo network: a residual CNN of 8 weight layers for 28x28 grey images, about 0.2 million parameters."""

from __future__ import annotations

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Add two 3x3 convolutions to a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        inner = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))


class ResidualCNN(nn.Module):
    """Classify images with a stem, three residual stages, a global average pool and a linear layer."""

    def __init__(self, widths: tuple[int, int, int] = (32, 48, 96), classes: int = 10) -> None:
        super().__init__()
        first, second, third = widths
        self.stem = nn.Sequential(nn.Conv2d(1, first, 3, padding=1, bias=False), nn.BatchNorm2d(first), nn.ReLU())
        self.stage1 = ResidualBlock(first, first)
        self.stage2 = ResidualBlock(first, second, stride=2)
        self.stage3 = ResidualBlock(second, third, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(third, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 1, H, W), float32 in [0, 1], to class scores (N, classes)."""
        features = self.stage3(self.stage2(self.stage1(self.stem(images))))
        return self.classifier(self.pool(features).flatten(1))


def residual_cnn() -> ResidualCNN:
    """Build the demo network with the widths of the shipped weights."""
    return ResidualCNN()
