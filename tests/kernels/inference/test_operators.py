"""What TVM's kernels compute equals what PyTorch computes, for random shapes of every operator that has one."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

pytest.importorskip("tvm")

from tests.support.compiled_kernels import Branches, agree

pytestmark = pytest.mark.slow

# The oldest processors that are compiled for have a quarter of the lanes and half the registers.
MACHINES = (None, "avx2", "x86-64")


class Then(nn.Module):
    """A layer, the layer's own input or another one's output added, and an activation."""

    def __init__(self, layer: nn.Module, activation: Callable[[Tensor], Tensor], shortcut: nn.Module | None) -> None:
        super().__init__()
        self.layer = layer
        self.activation = activation
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of the sum."""
        if self.shortcut is None:
            return self.activation(self.layer(x))
        return self.activation(self.shortcut(x) + self.layer(x))


ACTIVATIONS: tuple[Callable[[Tensor], Tensor], ...] = (
    torch.relu,
    F.relu6,
    F.silu,
    F.gelu,
    F.hardswish,
    torch.sigmoid,
    torch.tanh,
    nn.Hardtanh(-0.5, 0.25),
    nn.LeakyReLU(0.1),
    nn.GELU("tanh"),
    nn.Hardsigmoid(),
    nn.Identity(),
)


@torch.no_grad()
def with_zeros(layer: nn.Conv2d | nn.Linear, rng: random.Random) -> None:
    """Make blocks of a weight zero: none, some, whole rows of blocks, or all."""
    kind, generator = rng.randrange(4), torch.Generator().manual_seed(rng.randrange(1 << 16))
    blocks = [-(-size // 8) for size in layer.weight.shape[:2]]
    keep = torch.rand(blocks, generator=generator) < (1, 0.5, 0.5, 0)[kind]
    if kind == 2:
        keep[rng.randrange(blocks[0])] = False
    mask = keep.repeat_interleave(8, 0).repeat_interleave(8, 1)[: layer.weight.shape[0], : layer.weight.shape[1]]
    layer.weight.mul_(mask.reshape(*mask.shape, *[1] * (layer.weight.ndim - 2)))


def random_convolution(rng: random.Random, batch: int) -> tuple[nn.Module, Tensor]:
    """Return a convolution with what follows it, and an input."""
    groups = rng.choice([1, 1, 1, 2, 4])
    inner, outer = rng.randrange(1, 6) * groups, rng.randrange(1, 6) * groups
    if groups == 1:
        inner, outer = rng.randrange(1, 20), rng.randrange(1, 30)
    elif rng.random() < 0.5:
        inner, outer = groups * 3, groups * 3 * rng.choice([1, 2])
        groups = inner
    kernel = (rng.choice([1, 1, 2, 3, 3, 5, 7]), rng.choice([1, 3, 3, 5, 7]))
    dilation, stride = rng.choice([1, 1, 2, 3]), rng.choice([(1, 1), (1, 1), (2, 2), (3, 1)])
    padding = tuple(rng.randrange(0, dilation * (size - 1) + 1) for size in kernel)
    space = [dilation * (size - 1) + 1 + rng.randrange(0, 24) for size in kernel]

    def convolution() -> nn.Conv2d:
        layer = nn.Conv2d(inner, outer, kernel, stride, padding, dilation, groups, bias=rng.random() < 0.7)
        with_zeros(layer, rng)
        return layer

    first = convolution()
    shortcut = convolution() if rng.random() < 0.4 else None
    module = Then(first, rng.choice(ACTIVATIONS), shortcut)
    return module, torch.randn(batch, inner, *space)


@pytest.mark.parametrize(("batch", "mcpu"), [(1, MACHINES[0]), (3, MACHINES[1]), (8, MACHINES[2])])
def test_random_convolutions(batch: int, mcpu: str | None) -> None:
    rng = random.Random(batch)
    torch.manual_seed(batch)
    cases = [random_convolution(rng, batch) for _ in range(6)]
    agree(Branches([module for module, _ in cases]), [x for _, x in cases], mcpu)


def test_same_convolutions_share_a_grid() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(5, 5, 3, padding="same"), nn.Conv2d(5, 5, 5, padding=4, dilation=2), nn.Conv2d(5, 20, 1)]
    chain = nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(20, 20, 5, padding=2, groups=20), nn.Conv2d(20, 3, 3, 2, 1))
    agree(chain, [torch.randn(2, 5, 13, 18)])


class SmallMaps(nn.Module):
    """Layers on maps whose rows are joined: windows of many sizes, shortcuts, strides, pools and norms."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.wide = nn.Conv2d(width, 19, 3, padding=1), nn.Conv2d(19, 19, (1, 5), padding=(0, 2))
        self.norm, self.last = nn.BatchNorm2d(19), nn.Conv2d(19, 12, 3, padding=1)
        self.down, self.far = nn.Conv2d(12, 12, 3, 2, 1), nn.Conv2d(12, 12, 3, padding=2, dilation=2)
        self.pool, self.same = nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(3, 1, 1)
        self.each = nn.Conv2d(12, 12, 3, padding=1, groups=12)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return maps of both sizes and means."""
        x = F.relu(self.first(x))
        x = F.gelu(self.wide(x) + x)
        y = self.last(F.relu(self.norm(x)))
        z = self.down(torch.sigmoid(y)) + self.pool(y)
        return (
            z,
            F.silu(self.far(z)) * 2,
            self.same(y),
            self.each(y).mean([2, 3]),
            torch.cat([y, y - 1], 1),
            self.far(y),
        )


@pytest.mark.parametrize(("batch", "size"), [(1, 14), (3, 7)])
def test_maps_whose_rows_are_joined(batch: int, size: int) -> None:
    torch.manual_seed(size)
    module = SmallMaps(5)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and layer.groups == 1:
            with_zeros(layer, random.Random(size))
    agree(module, [torch.randn(batch, 5, size, size)])


@pytest.mark.parametrize("batch", [1, 3])
def test_random_transposed_convolutions(batch: int) -> None:
    rng = random.Random(batch)
    torch.manual_seed(batch)
    layers: list[nn.Module] = []
    inputs = []
    for _ in range(4):
        groups, stride = rng.choice([1, 2]), rng.choice([1, 2, 3])
        layer = nn.ConvTranspose2d(
            4 * groups,
            rng.randrange(1, 7) * groups,
            rng.choice([1, 2, 3, 4]),
            stride,
            padding=rng.choice([0, 1]),
            output_padding=stride - 1,
            groups=groups,
            dilation=rng.choice([1, 2]),
            bias=rng.random() < 0.5,
        )
        layers.append(nn.Sequential(layer, nn.ReLU()))
        inputs.append(torch.randn(batch, 4 * groups, rng.randrange(3, 9), rng.randrange(3, 9)))
    agree(Branches(layers), inputs)


@pytest.mark.parametrize(("rows", "mcpu"), [((1,), None), ((7,), "avx2"), ((37,), "x86-64"), ((2, 19), None)])
def test_linear_layers(rows: tuple[int, ...], mcpu: str | None) -> None:
    rng = random.Random(rows[0])
    torch.manual_seed(0)
    first, second, shortcut = nn.Linear(37, 29), nn.Linear(29, 50), nn.Linear(29, 50, bias=False)
    for layer in (first, second, shortcut):
        with_zeros(layer, rng)
    agree(nn.Sequential(first, nn.SiLU(), Then(second, F.gelu, shortcut)), [torch.randn(*rows, 37)], mcpu)


def test_pools() -> None:
    layers = [
        nn.MaxPool2d(3, 2, 1),
        nn.MaxPool2d(2, 2, ceil_mode=True),
        nn.MaxPool2d(3, 1, 1),
        nn.MaxPool2d(3, 2, 1, dilation=2),
        nn.MaxPool2d((5, 2), (3, 2), (2, 1)),
        nn.MaxPool2d(2, 3, ceil_mode=True),
        nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.MaxPool2d(3, 2, 1), nn.Conv2d(6, 5, 3, padding=1)),
        nn.AvgPool2d(3, 2, 1),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
        nn.AvgPool2d((1, 2), divisor_override=3),
        nn.AdaptiveAvgPool2d(1),
        nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    ]
    torch.manual_seed(0)
    agree(Branches(layers), [torch.randn(2, 4, 11, 18) - 5 for _ in layers])


class SqueezeExcitation(nn.Module):
    """Scales channels by what it computes of their means, splits and joins them."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.down, self.up = nn.Conv2d(3, 24, 3, padding=1), nn.Conv2d(24, 6, 1), nn.Conv2d(6, 24, 1)
        self.norm = nn.BatchNorm2d(24)
        self.last = nn.Conv2d(24, 10, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return maps and vectors."""
        x = F.silu(self.start(x))
        x = x * torch.sigmoid(self.up(F.relu(self.down(x.mean([2, 3], keepdim=True)))))
        left, right = x.chunk(2, 1)
        joined = torch.cat([right, left * 2 + 1], 1)
        sums = joined - x / 3
        grown = F.interpolate(self.last(F.relu(sums)), scale_factor=2)
        return sums, torch.sigmoid(sums) - 1, grown, self.norm(joined).flatten(2).transpose(1, 2), joined[:, 3:9, ::2]


def test_scaling_splitting_and_joining_channels() -> None:
    torch.manual_seed(0)
    agree(SqueezeExcitation(), [torch.randn(2, 3, 10, 13)])
