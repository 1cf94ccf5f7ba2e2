"""Networks whose branches multiply: squeeze and excitation, attention maps, gates, conditioning."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.blocks import IMAGE, Apply, between, classifier, conv_norm
from tests.support.zoo.registry import case


class SqueezeLinear(nn.Module):
    """Squeeze and excitation with linear layers; the gate is spread by ``view`` and ``expand_as``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, 16), nn.ReLU(), nn.Linear(16, width), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        batch, width = x.shape[:2]
        squeezed = F.adaptive_avg_pool2d(x, 1).view(batch, width)
        return x * self.layers(squeezed).view(batch, width, 1, 1).expand_as(x)


class SqueezeConvolution(nn.Module):
    """Squeeze and excitation with 1x1 convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(width, 16, 1), nn.Conv2d(16, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = x.mean((2, 3), keepdim=True)
        return F.hardsigmoid(self.expand(F.silu(self.reduce(squeezed)))) * x


@case("squeeze_excite_linear", IMAGE)
def squeeze_excite_linear() -> nn.Module:
    return between(nn.Sequential(conv_norm(32, 48), SqueezeLinear(48)), 32, 48)


@case("squeeze_excite_convolution", IMAGE)
def squeeze_excite_convolution() -> nn.Module:
    return between(nn.Sequential(conv_norm(32, 48), SqueezeConvolution(48)), 32, 48)


@case("efficient_channel_attention", IMAGE)
def efficient_channel_attention() -> nn.Module:
    class Efficient(nn.Module):
        """A convolution that runs along the channels."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            squeezed = x.mean((2, 3)).unsqueeze(1)
            return x * torch.sigmoid(self.conv(squeezed)).squeeze(1)[:, :, None, None]

    return between(nn.Sequential(conv_norm(32, 40), Efficient()), 32, 40)


@case("cbam", IMAGE)
def cbam() -> nn.Module:
    class Cbam(nn.Module):
        """Channel attention from two pools through shared layers, then spatial attention."""

        def __init__(self, width: int) -> None:
            super().__init__()
            self.shared = nn.Sequential(nn.Conv2d(width, 16, 1, bias=False), nn.ReLU(), nn.Conv2d(16, width, 1))
            self.spatial = nn.Conv2d(2, 1, 7, padding=3, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            pools = self.shared(F.adaptive_avg_pool2d(x, 1)) + self.shared(F.adaptive_max_pool2d(x, 1))
            x = x * torch.sigmoid(pools)
            maps = torch.cat((x.mean(1, keepdim=True), x.max(1, keepdim=True).values), 1)
            return x * torch.sigmoid(self.spatial(maps))

    return between(nn.Sequential(conv_norm(32, 48), Cbam(48)), 32, 48)


@case("coordinate_attention", IMAGE)
class CoordinateAttention(nn.Module):
    """Gates along height and width from one convolution over both, joined and split along space."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, 40)
        self.mix = conv_norm(40, 16, 1)
        self.rows, self.columns = nn.Conv2d(16, 40, 1), nn.Conv2d(16, 40, 1)
        self.tail = nn.Sequential(conv_norm(40, 24), classifier(24))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True).permute(0, 1, 3, 2)
        rows, columns = torch.split(self.mix(torch.cat((rows, columns), 2)), [16, 16], dim=2)
        gate = self.rows(rows).sigmoid() * self.columns(columns.transpose(2, 3)).sigmoid()
        return self.tail(x * gate)


@case("gated_multiplication", IMAGE)
class GatedMultiplication(nn.Module):
    """Two convolutions multiplied; one of them is read elsewhere too."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, 32)
        self.value, self.gate = conv_norm(32, 48), nn.Conv2d(32, 48, 1)
        self.merge, self.side = conv_norm(48, 24), nn.Conv2d(48, 24, 1)
        self.head = classifier(24)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        value = self.value(x)
        return self.head(self.merge(value * torch.sigmoid(self.gate(x))) + self.side(value))


@case("gated_linear_unit", IMAGE)
def gated_linear_unit() -> nn.Module:
    return between(nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.GLU(dim=1)))


@case("gated_linear_unit_on_tokens", (12, 24))
def gated_linear_unit_on_tokens() -> nn.Module:
    return nn.Sequential(nn.Linear(24, 96), nn.GLU(), nn.Linear(48, 32), nn.SiLU(), nn.Linear(32, 8))


@case("swish_gated_layers", (12, 24))
class SwishGated(nn.Module):
    """The feed-forward part of current language models."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(24, 64, bias=False), nn.Linear(24, 64, bias=False)
        self.down = nn.Linear(64, 24, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.silu(self.gate(x)) * self.up(x))


@case("highway", (40,))
class Highway(nn.Module):
    """Layers that mix what they make with what they got."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(40, 48)
        self.carries = nn.ModuleList(nn.Linear(48, 48) for _ in range(2))
        self.makers = nn.ModuleList(nn.Linear(48, 48) for _ in range(2))
        self.last = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for carry, make in zip(self.carries, self.makers, strict=True):
            gate = torch.sigmoid(carry(x))
            x = gate * torch.relu(make(x)) + (1 - gate) * x
        return self.last(x)


@case("film_conditioning", IMAGE, (12,))
class FilmConditioning(nn.Module):
    """A second input scales and shifts the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 40, 3, padding=1), nn.BatchNorm2d(40, affine=False)
        self.condition = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 80))
        self.tail = nn.Sequential(conv_norm(40, 24), classifier(24))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.condition(condition).unsqueeze(-1).unsqueeze(-1).chunk(2, dim=1)
        return self.tail(torch.relu(self.norm(self.stem(x)) * (1 + scale) + shift))


@case("time_embedding", IMAGE, example=lambda: (torch.randn(2, 3, 16, 16), torch.tensor([3, 70])))
class TimeEmbedding(nn.Module):
    """A diffusion block: sines of an integer step, through linear layers, onto the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 40))
        self.first, self.second = conv_norm(3, 40), nn.Conv2d(40, 3, 3, padding=1)

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        frequencies = torch.exp(torch.linspace(0, -4, 8, dtype=x.dtype, device=x.device))
        angles = step[:, None].to(x.dtype) * frequencies[None]
        embedded = self.layers(torch.cat((angles.sin(), angles.cos()), dim=-1))
        return x + self.second(torch.relu(self.first(x) + embedded[:, :, None, None]))


@case("sigmoid_map_broadcast", IMAGE)
class MapBroadcast(nn.Module):
    """One channel spread over many: its producer cannot shrink."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.map = conv_norm(3, 40), nn.Sequential(conv_norm(40, 24), nn.Conv2d(24, 1, 1))
        self.tail = nn.Sequential(conv_norm(40, 32), classifier(32))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.tail(x * self.map(x).sigmoid().expand(-1, 40, -1, -1))


@case("selective_kernel", IMAGE)
class SelectiveKernel(nn.Module):
    """SKNet: branches stacked, weighted by a softmax over branches, summed."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, 32)
        self.branches = nn.ModuleList([conv_norm(32, 40), conv_norm(32, 40, dilation=2)])
        self.squeeze, self.select = conv_norm(40, 16, 1), nn.Conv2d(16, 80, 1, bias=False)
        self.tail = nn.Sequential(conv_norm(40, 24), classifier(24))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        stacked = torch.stack([branch(x) for branch in self.branches], dim=1)
        pooled = stacked.sum(1).mean((2, 3), keepdim=True)
        weights = self.select(self.squeeze(pooled))
        weights = weights.view(x.size(0), 2, 40, 1, 1).softmax(dim=1)
        return self.tail((stacked * weights).sum(dim=1))


@case("split_attention", IMAGE)
class SplitAttention(nn.Module):
    """ResNeSt: radix groups in one grouped convolution, a softmax over the radix."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = conv_norm(3, 32), conv_norm(32, 64, groups=2)
        self.squeeze, self.select = conv_norm(32, 24, 1), nn.Conv2d(24, 64, 1)
        self.tail = nn.Sequential(conv_norm(32, 24), classifier(24))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.stem(x))
        batch, channels, height, width = x.shape
        parts = x.reshape(batch, 2, channels // 2, height, width)
        pooled = parts.sum(dim=1).mean((2, 3), keepdim=True)
        weights = self.select(self.squeeze(pooled)).view(batch, 1, 2, -1).transpose(1, 2)
        weights = F.softmax(weights, dim=1).reshape(batch, 2, -1, 1, 1)
        return self.tail((parts * weights).sum(dim=1).contiguous())


@case("dynamic_mixture", IMAGE)
class DynamicMixture(nn.Module):
    """Experts weighted by a router, unbound from a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.router = conv_norm(3, 32), classifier(32, 3)
        self.experts = nn.ModuleList(conv_norm(32, 40) for _ in range(3))
        self.head = classifier(40)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        weights = self.router(x).softmax(-1).unbind(-1)
        mixed = [w[:, None, None, None] * expert(x) for w, expert in zip(weights, self.experts, strict=True)]
        return self.head(mixed[0] + mixed[1] + mixed[2])


@case("masked_fill_threshold", IMAGE)
def masked_fill_threshold() -> nn.Module:
    return between(Apply(lambda x: x.masked_fill((x > 1.0) | x.eq(0), -0.5)), 40)
