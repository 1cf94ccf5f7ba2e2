"""The pieces that most networks of the zoo are put together from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

IMAGE = (3, 16, 16)


class Apply(nn.Module):
    """A function as a module, for couplings that are one expression."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


class Residual(nn.Module):
    """The sum of a body and its input, or of a body and a shortcut."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.shortcut(x)


def conv_norm(cin: int, cout: int, kernel: int = 3, **options: Any) -> nn.Sequential:
    """Return convolution, batch norm and ReLU; spatial size is kept unless a stride says otherwise."""
    padding = options.get("dilation", 1) * (kernel // 2)
    conv = nn.Conv2d(cin, cout, kernel, padding=padding, bias=False, **options)
    return nn.Sequential(conv, nn.BatchNorm2d(cout), nn.ReLU())


def classifier(cin: int, classes: int = 10) -> nn.Sequential:
    """Return global average pooling and a linear layer."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(cin, classes))


def between(middle: nn.Module, cin: int = 32, cout: int | None = None) -> nn.Sequential:
    """Return a network around a module that takes ``cin`` channels and gives ``cout`` (default the same)."""
    tail = conv_norm(cin if cout is None else cout, 24)
    return nn.Sequential(conv_norm(3, cin), middle, tail, classifier(24))
