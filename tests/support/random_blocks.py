"""The blocks that random networks are made of: each couples its channels in another way."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.blocks import Apply, Residual

Block = Callable[[random.Random, int, int], nn.Module]
BLOCKS: dict[str, Block] = {}

_ACTIVATIONS = (nn.ReLU, nn.SiLU, nn.Sigmoid, nn.Hardswish, nn.Tanh, nn.LeakyReLU, nn.Softplus, nn.Identity)


def block(function: Block) -> Block:
    """Register a maker of modules from a source of choices, a number of channels and a size in pixels."""
    if function.__name__ in BLOCKS:
        raise ValueError(f"there is already a block {function.__name__!r}")
    BLOCKS[function.__name__] = function
    return function


def width(draw: random.Random, multiple: int = 1) -> int:
    """Return a number of channels from 4 to 40, often no multiple of 8."""
    return multiple * draw.randint(-(-4 // multiple), 40 // multiple)


def norm(draw: random.Random, channels: int) -> nn.Module:
    """Return a batch norm, with or without its parameters, or nothing."""
    kind = draw.choice(("affine", "affine", "affine", "plain", "none"))
    return nn.Identity() if kind == "none" else nn.BatchNorm2d(channels, affine=kind == "affine")


def convolve(draw: random.Random, cin: int, cout: int, groups: int = 1) -> nn.Sequential:
    """Return convolution, norm and activation that keep the size."""
    kernel = draw.choice((1, 3))
    conv = nn.Conv2d(cin, cout, kernel, padding=kernel // 2, groups=groups, bias=draw.random() < 0.5)
    return nn.Sequential(conv, norm(draw, cout), draw.choice(_ACTIVATIONS)())


class Split(nn.Module):
    """Parts of the channels, the first through a body, the last dropped, in another order."""

    def __init__(self, sizes: list[int], body: nn.Module) -> None:
        super().__init__()
        self.sizes, self.body = sizes, body

    def forward(self, x: Tensor) -> Tensor:
        first, second, _ = x.split(self.sizes, dim=1)
        return torch.cat((second, self.body(first), second), 1)


class Product(nn.Module):
    """The product of two branches, one of them through a sigmoid."""

    def __init__(self, value: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.value, self.gate = value, gate

    def forward(self, x: Tensor) -> Tensor:
        return self.value(x) * torch.sigmoid(self.gate(x))


class Joined(nn.Module):
    """The concatenation of branches."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class Scaled(nn.Module):
    """A parameter and a buffer per channel."""

    shift: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, 1, 1))
        self.register_buffer("shift", torch.randn(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma - self.shift


@block
def convolution(draw: random.Random, channels: int, size: int) -> nn.Module:
    return convolve(draw, channels, width(draw))


@block
def strided(draw: random.Random, channels: int, size: int) -> nn.Module:
    conv = nn.Conv2d(channels, width(draw), 3, stride=2 if size >= 6 else 1, padding=1)
    return nn.Sequential(conv, norm(draw, conv.out_channels), draw.choice(_ACTIVATIONS)())


@block
def residual(draw: random.Random, channels: int, size: int) -> nn.Module:
    inner = width(draw)
    return Residual(nn.Sequential(convolve(draw, channels, inner), convolve(draw, inner, channels)))


@block
def residual_projected(draw: random.Random, channels: int, size: int) -> nn.Module:
    cout = width(draw)
    return Residual(convolve(draw, channels, cout), nn.Conv2d(channels, cout, 1, bias=False))


@block
def dense(draw: random.Random, channels: int, size: int) -> nn.Module:
    return Joined(nn.Identity(), convolve(draw, channels, width(draw)))


@block
def branches(draw: random.Random, channels: int, size: int) -> nn.Module:
    pooled = nn.Sequential(nn.AvgPool2d(3, 1, 1), convolve(draw, channels, width(draw)))
    return Joined(convolve(draw, channels, width(draw)), pooled, nn.MaxPool2d(3, 1, 1))


@block
def split_unequal(draw: random.Random, channels: int, size: int) -> nn.Module:
    if channels < 3:
        return convolve(draw, channels, width(draw))
    first, second = draw.randint(1, channels // 3), draw.randint(1, channels // 3)
    return Split([first, second, channels - first - second], convolve(draw, first, width(draw)))


@block
def chunk_and_gate(draw: random.Random, channels: int, size: int) -> nn.Module:
    cout = width(draw, 2)
    gate = Apply(lambda x: x.chunk(2, 1)[0] * x.chunk(2, 1)[1].sigmoid())
    return nn.Sequential(convolve(draw, channels, cout), gate)


@block
def chunk_and_join(draw: random.Random, channels: int, size: int) -> nn.Module:
    cout = width(draw, 2)
    body = Residual(convolve(draw, cout // 2, cout // 2))
    tail = Joined(Apply(lambda x: x.chunk(2, 1)[0]), nn.Sequential(Apply(lambda x: x.chunk(2, 1)[1]), body))
    return nn.Sequential(convolve(draw, channels, cout), tail)


@block
def gated_linear(draw: random.Random, channels: int, size: int) -> nn.Module:
    return nn.Sequential(convolve(draw, channels, width(draw, 2)), nn.GLU(1))


@block
def depthwise(draw: random.Random, channels: int, size: int) -> nn.Module:
    return convolve(draw, channels, channels * draw.choice((1, 1, 2)), groups=channels)


@block
def grouped(draw: random.Random, channels: int, size: int) -> nn.Module:
    groups = draw.choice((2, 3, 4))
    inner = width(draw, groups)
    return nn.Sequential(convolve(draw, channels, inner), convolve(draw, inner, width(draw, groups), groups=groups))


@block
def squeeze_excite(draw: random.Random, channels: int, size: int) -> nn.Module:
    inner = width(draw)
    layers = [nn.Conv2d(channels, inner, 1), nn.ReLU(), nn.Conv2d(inner, channels, 1)]
    return Product(nn.Identity(), nn.Sequential(nn.AdaptiveAvgPool2d(1), *layers))


@block
def shuffle(draw: random.Random, channels: int, size: int) -> nn.Module:
    groups = draw.choice((2, 3, 4))
    inner = width(draw, groups)
    return nn.Sequential(convolve(draw, channels, inner), nn.ChannelShuffle(groups))


@block
def shuffle_by_view(draw: random.Random, channels: int, size: int) -> nn.Module:
    groups = draw.choice((2, 4))
    mix = Apply(lambda x: x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2))
    return nn.Sequential(convolve(draw, channels, width(draw, groups)), mix)


@block
def group_sum_by_view(draw: random.Random, channels: int, size: int) -> nn.Module:
    cout = width(draw, 2)
    total = Apply(lambda x: x.reshape(-1, 2, cout // 2, size, size).sum(1))
    return nn.Sequential(convolve(draw, channels, cout), total)


@block
def pixel_shuffle(draw: random.Random, channels: int, size: int) -> nn.Module:
    if size > 12:
        return convolve(draw, channels, width(draw))
    return nn.Sequential(convolve(draw, channels, width(draw, 4)), nn.PixelShuffle(2))


@block
def pixel_unshuffle(draw: random.Random, channels: int, size: int) -> nn.Module:
    if size % 2 or size < 6:
        return convolve(draw, channels, width(draw))
    return nn.Sequential(nn.Conv2d(channels, draw.randint(4, 12), 1), nn.PixelUnshuffle(2))


@block
def transposed(draw: random.Random, channels: int, size: int) -> nn.Module:
    groups = draw.choice((1, 1, 2))
    inner = width(draw, groups)
    stride = 2 if size <= 12 else 1
    rise = nn.ConvTranspose2d(inner, width(draw, groups), 2 + stride, stride, 1, groups=groups)
    return nn.Sequential(convolve(draw, channels, inner), rise, draw.choice(_ACTIVATIONS)())


@block
def gate(draw: random.Random, channels: int, size: int) -> nn.Module:
    cout = width(draw)
    return Product(convolve(draw, channels, cout), nn.Conv2d(channels, cout, 1))


@block
def channel_slice(draw: random.Random, channels: int, size: int) -> nn.Module:
    start, step = draw.randint(0, channels // 2), draw.choice((1, 1, 2))
    return Apply(lambda x: x[:, start::step])


@block
def roll_or_flip(draw: random.Random, channels: int, size: int) -> nn.Module:
    by = draw.randint(1, channels)
    if draw.random() < 0.5:
        return Apply(lambda x: x + x.flip(1))
    return Apply(lambda x: torch.maximum(x, x.roll(by, 1)))


@block
def interpolate(draw: random.Random, channels: int, size: int) -> nn.Module:
    other = draw.randint(4, 14)
    return Apply(lambda x: F.interpolate(x, size=(other, other), mode="bilinear"))


@block
def pad(draw: random.Random, channels: int, size: int) -> nn.Module:
    before, after = draw.choice(((0, 0), (2, 0), (1, 5)))
    return Apply(lambda x: F.pad(x, (0, 1, 1, 0, before, after), value=0.3))


@block
def pool(draw: random.Random, channels: int, size: int) -> nn.Module:
    kinds = (nn.MaxPool2d(2, ceil_mode=True), nn.AvgPool2d(3, 1, 1), nn.AdaptiveAvgPool2d(5))
    return draw.choice(kinds)


@block
def normalisation(draw: random.Random, channels: int, size: int) -> nn.Module:
    cout = width(draw, 4)
    kinds = (nn.InstanceNorm2d(cout), nn.InstanceNorm2d(cout, affine=True), nn.GroupNorm(4, cout))
    return nn.Sequential(nn.Conv2d(channels, cout, 1), draw.choice(kinds))


@block
def prelu(draw: random.Random, channels: int, size: int) -> nn.Module:
    return nn.PReLU(draw.choice((1, channels)))


@block
def scale_and_shift(draw: random.Random, channels: int, size: int) -> nn.Module:
    return Scaled(channels)


@block
def shared(draw: random.Random, channels: int, size: int) -> nn.Module:
    body = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.Tanh())
    return nn.Sequential(body, nn.BatchNorm2d(channels), body)


@block
def mixes_channels(draw: random.Random, channels: int, size: int) -> nn.Module:
    return Apply(draw.choice((lambda x: x.softmax(1), lambda x: x - x.mean(1, keepdim=True), lambda x: x * x[:, :1])))
