"""Networks with normalisations other than a plain batch norm, and normalised weights."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.blocks import IMAGE, Apply, Residual, between, classifier, conv_norm
from tests.support.zoo.registry import case


@case("instance_norm_affine", IMAGE)
def instance_norm_affine() -> nn.Module:
    return between(nn.Sequential(nn.Conv2d(32, 40, 3), nn.InstanceNorm2d(40, affine=True), nn.ReLU()), 32, 40)


@case("instance_norm_plain", IMAGE)
def instance_norm_plain() -> nn.Module:
    return between(nn.Sequential(nn.Conv2d(32, 40, 3), nn.InstanceNorm2d(40), nn.ReLU()), 32, 40)


@case("instance_norm_statistics", IMAGE)
def instance_norm_statistics() -> nn.Module:
    norm = nn.InstanceNorm2d(40, affine=True, track_running_stats=True)
    return between(nn.Sequential(nn.Conv2d(32, 40, 3), norm, nn.ReLU()), 32, 40)


@case("group_norm", IMAGE)
def group_norm() -> nn.Module:
    middle = [nn.Conv2d(32, 48, 3, padding=1), nn.GroupNorm(4, 48), nn.SiLU(), conv_norm(48, 40)]
    return between(nn.Sequential(*middle), 32, 40)


@case("group_norm_per_channel", IMAGE)
def group_norm_per_channel() -> nn.Module:
    return between(nn.Sequential(nn.Conv2d(32, 40, 3, padding=1), nn.GroupNorm(40, 40), nn.ReLU()), 32, 40)


@case("batch_norm_not_affine", IMAGE)
def batch_norm_not_affine() -> nn.Module:
    return between(nn.Sequential(nn.Conv2d(32, 40, 3), nn.BatchNorm2d(40, affine=False), nn.ReLU()), 32, 40)


@case("batch_norm_of_batch", IMAGE)
def batch_norm_of_batch() -> nn.Module:
    """A norm without running statistics uses those of the batch, in evaluation too."""
    norm = nn.BatchNorm2d(40, track_running_stats=False)
    return between(nn.Sequential(nn.Conv2d(32, 40, 3), norm, nn.ReLU()), 32, 40)


@case("batch_norm_of_input", IMAGE)
def batch_norm_of_input() -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(3), conv_norm(3, 32), conv_norm(32, 24), classifier(24))


@case("two_norms_of_one_convolution", IMAGE)
class TwoNorms(nn.Module):
    """One convolution read by two batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 40, 3)
        self.first, self.second = nn.BatchNorm2d(40), nn.BatchNorm2d(40)
        self.tail = nn.Sequential(conv_norm(40, 32), classifier(32))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.tail(torch.relu(self.first(x)) + torch.tanh(self.second(x)))


class ConvNextBlock(nn.Module):
    """Depthwise convolution, layer norm with channels last, two linear layers, a scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.expand, self.reduce = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(1e-6 * torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.gamma * self.reduce(F.gelu(self.expand(y)))
        return x + y.permute(0, 3, 1, 2)


@case("convnext_block", IMAGE)
def convnext_block() -> nn.Module:
    return between(nn.Sequential(ConvNextBlock(24), ConvNextBlock(24)), 24)


@case("layer_norm_channels_first", IMAGE)
def layer_norm_channels_first() -> nn.Module:
    def norm(x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        return centred / torch.sqrt(centred.pow(2).mean(1, keepdim=True) + 1e-6)

    return between(nn.Sequential(conv_norm(32, 40), Apply(norm), conv_norm(40, 48)), 32, 48)


@case("layer_norm_over_maps", IMAGE)
def layer_norm_over_maps() -> nn.Module:
    return between(nn.Sequential(nn.LayerNorm([32, 16, 16]), conv_norm(32, 40)), 32, 40)


@case("layer_norm_over_space", IMAGE)
def layer_norm_over_space() -> nn.Module:
    return between(nn.Sequential(conv_norm(32, 40), nn.LayerNorm([16, 16])), 32, 40)


@case("root_mean_square_norm", (10, 24))
def root_mean_square_norm() -> nn.Module:
    body = nn.Sequential(nn.RMSNorm(24), nn.Linear(24, 64), nn.SiLU(), nn.Linear(64, 24))
    return nn.Sequential(Residual(body), nn.RMSNorm(24), nn.Linear(24, 8))


class StandardisedConvolution(nn.Conv2d):
    """A convolution whose weight is standardised over its inputs and scaled, as in NFNets."""

    def __init__(self, cin: int, cout: int, kernel: int) -> None:
        super().__init__(cin, cout, kernel, padding=kernel // 2)
        self.gain = nn.Parameter(torch.ones(cout, 1, 1, 1))

    def forward(self, input: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True)
        fan_in = self.weight[0].numel()
        weight = (self.weight - mean) * torch.rsqrt(torch.clamp(variance * fan_in, min=1e-4)) * self.gain
        return F.conv2d(input, weight, self.bias, self.stride, self.padding)


@case("standardised_weights", IMAGE)
def standardised_weights() -> nn.Module:
    body = nn.Sequential(
        Apply(lambda x: 1.7 * F.gelu(x) * 0.9),
        StandardisedConvolution(32, 40, 1),
        nn.GELU(),
        StandardisedConvolution(40, 32, 3),
        Apply(lambda x: 0.2 * x),
    )
    return between(nn.Sequential(Residual(body), conv_norm(32, 40)), 32, 40)


@case("standardised_by_batch_norm", IMAGE)
class StandardisedByBatchNorm(nn.Module):
    """timm's form: the weight goes through ``batch_norm`` in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.tail = conv_norm(3, 32), nn.Sequential(conv_norm(40, 24), classifier(24))
        self.conv, self.gain = nn.Conv2d(32, 40, 3, padding=1), nn.Parameter(torch.ones(40, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        flat = self.conv.weight.reshape(1, 40, -1)
        scale = (self.gain * self.conv.weight[0].numel() ** -0.5).view(-1)
        flat = F.batch_norm(flat, None, None, weight=scale, training=True, momentum=0.0, eps=1e-6)
        weight = flat.reshape_as(self.conv.weight)
        return self.tail(F.gelu(F.conv2d(self.stem(x), weight, self.conv.bias, padding=1)))


@case("weight_norm_hook", IMAGE)
def weight_norm_hook() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        first = nn.utils.weight_norm(nn.Conv2d(3, 32, 3, padding=1))
        second = nn.utils.weight_norm(nn.Conv2d(32, 40, 3, padding=1))
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), conv_norm(40, 32), classifier(32))


@case("weight_norm_parametrization", IMAGE)
def weight_norm_parametrization() -> nn.Module:
    norm = nn.utils.parametrizations.weight_norm
    first, second = norm(nn.Conv2d(3, 32, 3, padding=1)), norm(nn.Conv2d(32, 40, 3, padding=1))
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), conv_norm(40, 32), classifier(32))


@case("spectral_norm_hook", IMAGE)
def spectral_norm_hook() -> nn.Module:
    norm = nn.utils.spectral_norm
    first, second = norm(nn.Conv2d(3, 32, 3, padding=1)), norm(nn.Conv2d(32, 40, 3, padding=1))
    network = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), conv_norm(40, 32), classifier(32))
    for _ in range(5):  # The estimate of the largest singular value grows only in training mode.
        network(torch.randn(2, *IMAGE))
    return network


@case("spectral_norm_parametrization", IMAGE)
def spectral_norm_parametrization() -> nn.Module:
    norm = nn.utils.parametrizations.spectral_norm
    first, second = norm(nn.Conv2d(3, 32, 3, padding=1)), norm(nn.Conv2d(32, 40, 3, padding=1))
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), conv_norm(40, 32), classifier(32))


@case("adaptive_instance_norm", IMAGE, (12,))
class AdaptiveInstanceNorm(nn.Module):
    """StyleGAN's early form: a style vector scales normalised channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 40, 3, padding=1), nn.InstanceNorm2d(40)
        self.style = nn.Linear(12, 80)
        self.tail = nn.Sequential(conv_norm(40, 24), nn.Conv2d(24, 3, 1))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        style = self.style(style).view(-1, 2, 40, 1, 1)
        return self.tail(self.norm(self.conv(x)) * (style[:, 0] + 1) + style[:, 1])


@case("modulated_convolution", (16, 8, 8), (12,))
class ModulatedConvolution(nn.Module):
    """StyleGAN2: a weight per sample, run as one grouped convolution over the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv_norm(16, 24)
        self.weight = nn.Parameter(torch.randn(32, 24, 3, 3) * 0.1)
        self.style = nn.Linear(12, 24)
        self.tail = nn.Sequential(conv_norm(32, 24), nn.Conv2d(24, 3, 1))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        x = self.first(x) * (1 + self.style(style))[:, :, None, None]
        demodulated = torch.rsqrt(self.weight.square().sum((1, 2, 3)) + 1e-8)
        return self.tail(F.conv2d(x, self.weight, padding=1) * demodulated.view(1, -1, 1, 1))
