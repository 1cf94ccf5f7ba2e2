"""Grouped and depthwise convolutions, channel shuffles, pixel shuffles and space slices."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.support.zoo.blocks import IMAGE, Apply, Residual, between, classifier, conv_norm
from tests.support.zoo.registry import case


@case("filters_for_each_sample", IMAGE)
class FiltersForEachSample(nn.Module):
    """A correlation in which each channel of each sample has a filter of its own: groups grow with the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.search, self.template = conv_norm(3, 16), conv_norm(3, 16)
        self.tail = nn.Sequential(conv_norm(16, 24), classifier(24))

    def forward(self, x: Tensor) -> Tensor:
        wide, filters = self.search(x), nn.functional.adaptive_avg_pool2d(self.template(x), 3)
        count, channels, height, width = wide.shape
        one, kernels = wide.reshape(1, -1, height, width), filters.reshape(-1, 1, 3, 3)
        found = nn.functional.conv2d(one, kernels, padding=1, groups=count * channels)
        return self.tail(found.reshape(count, channels, height, width))


@case("inverted_residual", IMAGE)
def inverted_residual() -> nn.Module:
    def body(cin: int, cout: int, stride: int) -> nn.Module:
        last = [nn.Conv2d(4 * cin, cout, 1, bias=False), nn.BatchNorm2d(cout)]
        return nn.Sequential(
            conv_norm(cin, 4 * cin, 1), conv_norm(4 * cin, 4 * cin, groups=4 * cin, stride=stride), *last
        )

    return between(nn.Sequential(Residual(body(16, 16, 1)), body(16, 24, 2), Residual(body(24, 24, 1))), 16, 24)


@case("depthwise_separable", IMAGE)
def depthwise_separable() -> nn.Module:
    return between(nn.Sequential(conv_norm(32, 32, 5, groups=32), conv_norm(32, 48, 1)), 32, 48)


@case("depthwise_multiplier", IMAGE)
def depthwise_multiplier() -> nn.Module:
    return between(nn.Sequential(conv_norm(24, 48, groups=24), conv_norm(48, 32, 1)), 24, 32)


@case("depthwise_of_input", IMAGE)
def depthwise_of_input() -> nn.Module:
    return nn.Sequential(conv_norm(3, 48, groups=3), conv_norm(48, 32, 1), classifier(32))


@case("grouped_resnext", IMAGE)
def grouped_resnext() -> nn.Module:
    def body() -> nn.Module:
        last = [nn.Conv2d(64, 40, 1, bias=False), nn.BatchNorm2d(40)]
        return nn.Sequential(conv_norm(40, 64, 1), conv_norm(64, 64, groups=4), *last)

    return between(nn.Sequential(Residual(body()), nn.ReLU(), Residual(body()), nn.ReLU()), 40)


@case("grouped_of_concat", IMAGE)
class GroupedOfConcat(nn.Module):
    """Groups whose borders do not fall on the borders of what was joined."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = conv_norm(3, 20), conv_norm(3, 28)
        self.grouped = conv_norm(48, 48, groups=3)
        self.tail = nn.Sequential(conv_norm(48, 24, 1), classifier(24))

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.grouped(torch.cat((self.left(x), self.right(x)), 1)))


@case("grouped_different_counts", IMAGE)
def grouped_different_counts() -> nn.Module:
    return between(nn.Sequential(conv_norm(48, 48, groups=2), conv_norm(48, 96, groups=6)), 48, 96)


@case("grouped_residual_of_stem", IMAGE)
def grouped_residual_of_stem() -> nn.Module:
    return between(Residual(conv_norm(48, 48, groups=3)), 48)


@case("grouped_transposed", IMAGE)
def grouped_transposed() -> nn.Module:
    rise = nn.ConvTranspose2d(32, 48, 4, stride=2, padding=1, groups=4)
    return between(nn.Sequential(rise, nn.ReLU(), conv_norm(48, 32, stride=2)))


@case("depthwise_transposed", IMAGE)
def depthwise_transposed() -> nn.Module:
    rise = nn.ConvTranspose2d(32, 32, 4, stride=2, padding=1, groups=32, bias=False)
    return between(nn.Sequential(rise, conv_norm(32, 40, stride=2)), 32, 40)


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Return the channels of all groups interleaved, by ``view`` and ``transpose``."""
    batch, channels, height, width = x.size()
    x = x.view(batch, groups, channels // groups, height, width)
    return torch.transpose(x, 1, 2).contiguous().view(batch, -1, height, width)


class ShuffleUnit(nn.Module):
    """ShuffleNetV2: half of the channels pass by, then all are shuffled."""

    def __init__(self, width: int, module: bool) -> None:
        super().__init__()
        half = width // 2
        depthwise = [nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False), nn.BatchNorm2d(half)]
        self.branch = nn.Sequential(conv_norm(half, half, 1), *depthwise, conv_norm(half, half, 1))
        self.mix: nn.Module = nn.ChannelShuffle(2) if module else Apply(lambda x: shuffle(x, 2))

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        return self.mix(torch.cat((first, self.branch(second)), dim=1))


@case("shufflenet_unit_view", IMAGE)
def shufflenet_unit_view() -> nn.Module:
    return between(nn.Sequential(ShuffleUnit(48, False), ShuffleUnit(48, False)), 48)


@case("shufflenet_unit_module", IMAGE)
def shufflenet_unit_module() -> nn.Module:
    return between(nn.Sequential(ShuffleUnit(48, True), ShuffleUnit(48, True)), 48)


@case("channel_shuffle_of_groups", IMAGE)
def channel_shuffle_of_groups() -> nn.Module:
    first = [conv_norm(36, 60, 1, groups=3), nn.ChannelShuffle(3), conv_norm(60, 60, groups=60)]
    return between(nn.Sequential(*first, conv_norm(60, 36, 1, groups=3)), 36)


@case("subpixel_upscaler", IMAGE)
def subpixel_upscaler() -> nn.Module:
    first = [nn.Conv2d(3, 40, 5, padding=2), nn.Tanh(), nn.Conv2d(40, 32, 3, padding=1), nn.Tanh()]
    return nn.Sequential(*first, nn.Conv2d(32, 12, 3, padding=1), nn.PixelShuffle(2))


@case("pixel_shuffle_inside", IMAGE)
def pixel_shuffle_inside() -> nn.Module:
    middle = [conv_norm(24, 128, 1), nn.PixelShuffle(2), nn.PReLU(), conv_norm(32, 40, stride=2)]
    return between(nn.Sequential(*middle), 24, 40)


@case("pixel_unshuffle_inside", IMAGE)
def pixel_unshuffle_inside() -> nn.Module:
    return between(nn.Sequential(conv_norm(32, 24), nn.PixelUnshuffle(2), conv_norm(96, 40, 1)), 32, 40)


@case("pixel_shuffle_by_reshape", IMAGE)
def pixel_shuffle_by_reshape() -> nn.Module:
    def depth_to_space(x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        x = x.reshape(batch, 2, 2, channels // 4, height, width).permute(0, 3, 4, 1, 5, 2)
        return x.reshape(batch, channels // 4, 2 * height, 2 * width)

    return between(nn.Sequential(conv_norm(24, 96, 1), Apply(depth_to_space), conv_norm(24, 40, stride=2)), 24, 40)


@case("focus_space_slices", IMAGE)
def focus_space_slices() -> nn.Module:
    def focus(x: Tensor) -> Tensor:
        parts = (x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2])
        return torch.cat(parts, 1)

    return between(nn.Sequential(conv_norm(32, 24), Apply(focus), conv_norm(96, 40)), 32, 40)


@case("haar_wavelet", IMAGE)
class Haar(nn.Module):
    """A fixed depthwise kernel, held as a buffer, applied to every channel."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, 32)
        self.register_buffer("kernel", torch.tensor([[1.0, 1.0], [1.0, -1.0]]).expand(32, 1, 2, 2).clone())
        self.tail = nn.Sequential(conv_norm(32, 40), classifier(40))

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(nn.functional.conv2d(self.stem(x), self.kernel, stride=2, groups=32))
