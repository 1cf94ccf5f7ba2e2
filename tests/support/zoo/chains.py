"""Networks without branches: convolutions of every rank, pools, activations, resizing, padding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.blocks import IMAGE, Apply, between, classifier, conv_norm
from tests.support.zoo.registry import case


@case("plain_chain", IMAGE)
def plain_chain() -> nn.Module:
    return nn.Sequential(
        conv_norm(3, 24), conv_norm(24, 40), nn.MaxPool2d(2), conv_norm(40, 48, stride=2), classifier(48)
    )


@case("vgg_flatten_into_linear", (3, 32, 32))
def vgg_flatten_into_linear() -> nn.Module:
    features = [conv_norm(3, 24), nn.MaxPool2d(2), conv_norm(24, 32), nn.MaxPool2d(2), conv_norm(32, 32)]
    head = [nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(32 * 16, 64), nn.ReLU(), nn.Dropout()]
    return nn.Sequential(*features, *head, nn.Linear(64, 10))


@case("biases_without_norm", (1, 28, 28))
def biases_without_norm() -> nn.Module:
    features = [nn.Conv2d(1, 20, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(20, 36, 5), nn.Sigmoid()]
    head = [nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36 * 16, 64), nn.Sigmoid(), nn.Linear(64, 10)]
    return nn.Sequential(*features, *head)


@case("pad_mode_and_dilation", IMAGE)
def pad_mode_and_dilation() -> nn.Module:
    same = nn.Conv2d(3, 24, 3, padding="same")
    reflect = nn.Conv2d(24, 32, 3, padding=1, padding_mode="reflect")
    circular = nn.Conv2d(32, 24, (3, 1), padding=(1, 0), padding_mode="circular")
    dilated = conv_norm(24, 32, dilation=2)
    return nn.Sequential(same, nn.ReLU(), reflect, nn.ReLU(), circular, dilated, classifier(32))


@case("multilayer_perceptron", (40,))
def multilayer_perceptron() -> nn.Module:
    first = [nn.Linear(40, 64), nn.BatchNorm1d(64), nn.ReLU()]
    return nn.Sequential(*first, nn.Linear(64, 48, bias=False), nn.GELU(), nn.Linear(48, 10))


@case("linear_on_tokens", (12, 20))
def linear_on_tokens() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 64), nn.GELU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))


@case("conv1d_audio", (1, 256))
def conv1d_audio() -> nn.Module:
    first = [nn.Conv1d(1, 24, 9, stride=4), nn.BatchNorm1d(24), nn.ReLU(), nn.MaxPool1d(2)]
    second = [nn.Conv1d(24, 40, 3), nn.BatchNorm1d(40), nn.ReLU(), nn.AvgPool1d(2), nn.Conv1d(40, 32, 3)]
    return nn.Sequential(*first, *second, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 10))


@case("conv3d_video", (3, 4, 12, 12))
def conv3d_video() -> nn.Module:
    first = [nn.Conv3d(3, 24, (1, 3, 3), padding=(0, 1, 1), bias=False), nn.BatchNorm3d(24), nn.ReLU()]
    second = [nn.Conv3d(24, 32, (3, 1, 1), padding=(1, 0, 0)), nn.BatchNorm3d(32), nn.ReLU()]
    last = [nn.MaxPool3d((1, 2, 2)), nn.Conv3d(32, 24, 3, padding=1), nn.AdaptiveAvgPool3d(1)]
    return nn.Sequential(*first, *second, *last, nn.Flatten(1), nn.Linear(24, 10))


@case("dcgan_generator", (32, 1, 1))
def dcgan_generator() -> nn.Module:
    layers: list[nn.Module] = []
    for cin, cout, stride, padding in ((32, 64, 1, 0), (64, 48, 2, 1), (48, 24, 2, 1)):
        layers += [nn.ConvTranspose2d(cin, cout, 4, stride, padding, bias=False)]
        layers += [nn.BatchNorm2d(cout), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.ConvTranspose2d(24, 3, 4, 2, 1), nn.Tanh())


@case("dcgan_discriminator", (3, 32, 32))
def dcgan_discriminator() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 24, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
    layers += [nn.Conv2d(24, 48, 4, 2, 1, bias=False), nn.BatchNorm2d(48), nn.LeakyReLU(0.2, inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(48, 1, 8), nn.Sigmoid(), Apply(lambda x: x.view(-1, 1).squeeze(1)))


@case("transposed_1d_and_3d", (4, 8))
class TransposedOneAndThree(nn.Module):
    """Transposed convolutions along one axis, then three."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = nn.ConvTranspose1d(4, 32, 4, stride=2, padding=1)
        self.narrow = nn.Conv1d(32, 16, 1)
        self.volume = nn.ConvTranspose3d(16, 24, 2, stride=2)
        self.last = nn.Conv3d(24, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        lines = self.narrow(F.relu(self.lines(x)))
        volume = self.volume(lines.unsqueeze(-1).unsqueeze(-1))
        return self.last(F.relu(volume))


@case("activations_zero_at_zero", IMAGE)
def activations_zero_at_zero() -> nn.Module:
    kinds = [nn.ReLU6(), nn.LeakyReLU(0.1), nn.ELU(), nn.SELU(), nn.CELU(), nn.GELU(), nn.SiLU(), nn.Mish()]
    kinds += [nn.Hardswish(), nn.Tanh(), nn.Hardtanh(), nn.Softsign(), nn.Softshrink(0.1), nn.Tanhshrink()]
    layers = [layer for kind in kinds for layer in (nn.Conv2d(24, 24, 1), nn.BatchNorm2d(24), kind)]
    return nn.Sequential(conv_norm(3, 24), *layers, classifier(24))


@case("activations_not_zero_at_zero", IMAGE)
def activations_not_zero_at_zero() -> nn.Module:
    kinds = [nn.Sigmoid(), nn.Hardsigmoid(), nn.Softplus(), nn.LogSigmoid(), nn.Threshold(0.1, 0.5)]
    layers = [layer for kind in kinds for layer in (nn.Conv2d(24, 24, 1), nn.BatchNorm2d(24), kind)]
    return nn.Sequential(conv_norm(3, 24), *layers, classifier(24))


@case("elementwise_functions", IMAGE)
def elementwise_functions() -> nn.Module:
    def first(x: Tensor) -> Tensor:
        return torch.sqrt(x.abs() + 1) - x.pow(2).clamp(max=2.0) + torch.exp(-x) * torch.cos(x)

    def second(x: Tensor) -> Tensor:
        return torch.where(x > 0.5, x, -0.3 * x) + (1 - x) / (2 + x.square()) + torch.log1p(x.relu())

    return nn.Sequential(between(Apply(first))[:3], nn.Conv2d(24, 32, 1), Apply(second), classifier(32))


@case("dropouts", IMAGE)
def dropouts() -> nn.Module:
    return between(nn.Sequential(nn.Dropout2d(0.5), nn.Conv2d(32, 40, 1), nn.Dropout(0.3), nn.AlphaDropout()), 32, 40)


@case("pools", (3, 33, 33))
def pools() -> nn.Module:
    first = [nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.Conv2d(32, 24, 1)]
    second = [nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False), nn.Conv2d(24, 32, 1)]
    return between(nn.Sequential(*first, *second, nn.AdaptiveAvgPool2d((3, 5)), nn.LPPool2d(2, 2)))


@case("adaptive_max_pool", IMAGE)
def adaptive_max_pool() -> nn.Module:
    head = [nn.AdaptiveMaxPool2d((2, 3)), nn.Flatten(), nn.Linear(40 * 6, 10)]
    return nn.Sequential(conv_norm(3, 32), conv_norm(32, 40), *head)


@case("adaptive_average_and_max", IMAGE)
def adaptive_average_and_max() -> nn.Module:
    def pool(x: Tensor) -> Tensor:
        return torch.cat((F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)), 1).flatten(1)

    return nn.Sequential(conv_norm(3, 32), conv_norm(32, 40), Apply(pool), nn.Linear(80, 10))


@case("max_unpool", IMAGE)
class MaxUnpool(nn.Module):
    """SegNet: the decoder puts values back where the encoder's pool took them."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = conv_norm(3, 32)
        self.middle = nn.Sequential(conv_norm(32, 40), conv_norm(40, 32))
        self.decoder = nn.Sequential(conv_norm(32, 24), nn.Conv2d(24, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        pooled, places = F.max_pool2d(self.encoder(x), 2, return_indices=True)
        return self.decoder(F.max_unpool2d(self.middle(pooled), places, [2, 2]))


@case("pad_spatial", IMAGE)
def pad_spatial() -> nn.Module:
    pads = [nn.ZeroPad2d((1, 2, 0, 1)), nn.Conv2d(32, 24, 3), nn.ReflectionPad2d(1), nn.Conv2d(24, 32, 3)]
    return between(nn.Sequential(*pads, nn.ReplicationPad2d(2), Apply(lambda x: F.pad(x, (1, 1), value=0.5))))


@case("pad_on_channel_axis", IMAGE)
def pad_on_channel_axis() -> nn.Module:
    widen = Apply(lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 8, 8)))
    return between(widen, 32, 48)


@case("resize", IMAGE)
def resize() -> nn.Module:
    first = [nn.Upsample(scale_factor=2), nn.Conv2d(32, 24, 1), nn.UpsamplingBilinear2d(scale_factor=2)]
    second = [nn.Conv2d(24, 32, 3, 2), Apply(lambda x: F.interpolate(x, (8, 8), mode="bicubic"))]
    return between(nn.Sequential(*first, *second, Apply(lambda x: F.interpolate(x, scale_factor=0.5, mode="area"))))


@case("local_response_norm", IMAGE)
def local_response_norm() -> nn.Module:
    return between(nn.Sequential(nn.LocalResponseNorm(5), conv_norm(32, 40)), 32, 40)


@case("unfold_patches", IMAGE)
def unfold_patches() -> nn.Module:
    patches = Apply(lambda x: F.unfold(x, 2, stride=2).unflatten(2, (8, 8)))
    return between(nn.Sequential(conv_norm(32, 24), patches), 32, 96)


@case("spatial_transformer", IMAGE)
class SpatialTransformer(nn.Module):
    """Features sampled on a grid that the network itself predicts."""

    def __init__(self) -> None:
        super().__init__()
        self.features = conv_norm(3, 32)
        self.theta = classifier(32, 6)
        self.tail = nn.Sequential(conv_norm(32, 24), classifier(24))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        theta = 0.3 * self.theta(x).view(-1, 2, 3)
        grid = F.affine_grid(theta, [x.size(0), 1, 16, 16], align_corners=False)
        return self.tail(F.grid_sample(x, grid, align_corners=False))
