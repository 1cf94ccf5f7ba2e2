"""Networks that view, permute or reduce the axis that carries channels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.support.zoo.blocks import IMAGE, Apply, between, classifier, conv_norm
from tests.support.zoo.registry import case

_SMALL = (3, 8, 8)


def _expression(name: str, function: Callable[[Tensor], Tensor], cin: int, cout: int) -> None:
    """Register one expression between two convolutions."""
    case(name, IMAGE)(lambda: between(Apply(function), cin, cout))


def _flattened(name: str, function: Callable[[Tensor], Tensor], width: int, features: int) -> None:
    """Register one expression that turns ``width`` 4x4 maps into ``features`` for a linear layer."""

    def factory() -> nn.Module:
        body = [conv_norm(3, 24), conv_norm(24, width), nn.MaxPool2d(2)]
        return nn.Sequential(*body, Apply(function), nn.Linear(features, 48), nn.ReLU(), nn.Linear(48, 10))

    case(name, _SMALL)(factory)


_flattened("flatten_into_linear", lambda x: x.flatten(1), 32, 512)
_flattened("view_minus_one", lambda x: x.view(x.size(0), -1), 32, 512)
_flattened("view_literal_sizes", lambda x: x.view(-1, 32 * 4 * 4), 32, 512)
_flattened("permute_before_flatten", lambda x: x.permute(0, 2, 3, 1).flatten(1), 32, 512)
_flattened("transpose_before_flatten", lambda x: x.flatten(2).transpose(1, 2).reshape(-1, 512), 32, 512)
_flattened("flatten_space_mean_tokens", lambda x: x.flatten(2).mean(-1), 32, 32)
_flattened("squeeze_after_pool", lambda x: x.mean((2, 3), keepdim=True).squeeze(-1).squeeze(-1), 40, 40)
_flattened("amax_over_space", lambda x: x.amax((2, 3)) - x.amin((-1, -2)), 40, 40)
_flattened("max_over_space_twice", lambda x: x.max(-1).values.max(-1)[0], 40, 40)
_flattened("spatial_statistics", lambda x: torch.cat((x.std((2, 3)), x.var((2, 3)), x.sum((2, 3))), 1), 24, 72)
_flattened("norm_over_space", lambda x: x.flatten(2).norm(dim=2) + x.logsumexp((2, 3)), 40, 40)
_flattened("gram_matrix", lambda x: torch.bmm(x.flatten(2), x.flatten(2).transpose(1, 2)).flatten(1), 16, 256)
_flattened("bilinear_pool", lambda x: torch.einsum("bchw,bdhw->bcd", x, x).reshape(-1, 256), 16, 256)

_expression("mean_over_channels", lambda x: x * x.mean(1, keepdim=True), 40, 40)
_expression("sum_over_channels", lambda x: x / (1 + x.sum(dim=1, keepdim=True)), 40, 40)
_expression("max_over_channels", lambda x: x - torch.max(x, dim=1, keepdim=True)[0], 40, 40)
_expression("amax_over_channels", lambda x: x - x.amax(1, keepdim=True), 40, 40)
_expression("product_over_channels", lambda x: x * (0.5 + x.sigmoid()).prod(1, keepdim=True).tanh(), 24, 24)
_expression("argmax_over_channels", lambda x: x + 0.1 * x.argmax(1, keepdim=True), 40, 40)
_expression("softmax_over_channels", lambda x: x.softmax(1), 40, 40)
_expression("log_softmax_over_channels", lambda x: torch.log_softmax(x, dim=-3), 40, 40)
_expression("softmax_over_space", lambda x: 50 * x * x.flatten(2).softmax(-1).view_as(x), 40, 40)
_expression("normalise_over_channels", lambda x: nn.functional.normalize(x, dim=1), 40, 40)
_expression("normalise_over_space", lambda x: x / (x.square().sum((2, 3), keepdim=True) + 1).sqrt(), 40, 40)
_expression("maxout_by_view", lambda x: x.view(-1, 24, 2, 16, 16).max(dim=2)[0], 48, 24)
_expression("maxout_by_strides", lambda x: torch.maximum(x[:, ::2], x[:, 1::2]), 48, 24)
_expression("group_mean_by_reshape", lambda x: x.unflatten(1, (6, 8)).mean(2), 48, 6)
_expression("across_group_mean", lambda x: x.unflatten(1, (2, 24)).mean(1), 48, 24)
_expression("channels_into_space", lambda x: x.reshape(-1, 12, 4, 16, 16).flatten(2, 3), 48, 12)
_expression("transpose_channels_with_space", lambda x: x.transpose(1, 2).relu().transpose(1, 2), 40, 40)
_expression("swap_axes_and_back", lambda x: x.movedim(1, -1).contiguous().movedim(-1, 1) * 2, 40, 40)
_expression("expand_pooled", lambda x: x + x.mean((2, 3), keepdim=True).expand(-1, -1, 16, 16), 40, 40)
_expression("flatten_batch_with_channels", lambda x: x.reshape(-1, 1, 16, 16).relu().reshape(-1, 40, 16, 16), 40, 40)
_expression("concat_after_unsqueeze", lambda x: torch.cat((x.unsqueeze(1), -x[:, None]), 1).amax(1), 40, 40)


@case("channels_become_height", IMAGE)
def channels_become_height() -> nn.Module:
    """A convolution that slides along what was the channel axis."""
    turn = Apply(lambda x: x.permute(0, 2, 1, 3))
    return nn.Sequential(conv_norm(3, 24), turn, conv_norm(16, 32), classifier(32))


@case("temporal_shift", (4, 3, 12, 12))
class TemporalShift(nn.Module):
    """Frames folded into the batch; a part of the channels shifts in time."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = conv_norm(3, 32), conv_norm(32, 40)
        self.head = nn.Linear(40, 10)

    def forward(self, x: Tensor) -> Tensor:
        frames = self.stem(x.flatten(0, 1)).view(-1, 4, 32, 12, 12)
        back, rest = frames[:, 1:, :8], frames[:, :, 8:]
        shifted = torch.cat((torch.cat((back, torch.zeros_like(frames[:, :1, :8])), 1), rest), 2)
        return self.head(self.body(shifted.flatten(0, 1)).mean((2, 3)).view(-1, 4, 40).mean(1))


@case("latent_to_maps", (24,))
class LatentToMaps(nn.Module):
    """A linear layer whose outputs become maps: each channel is sixteen features."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(24, 32 * 16)
        self.norm = nn.BatchNorm2d(32)
        self.tail = nn.Sequential(nn.ConvTranspose2d(32, 24, 4, 2, 1), nn.ReLU(), nn.Conv2d(24, 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(torch.relu(self.norm(self.first(x).view(-1, 32, 4, 4)))).tanh()


@case("autoencoder", (1, 16, 16))
class Autoencoder(nn.Module):
    """Maps to a flat code and back."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(conv_norm(1, 24, stride=2), conv_norm(24, 32, stride=2), nn.Flatten())
        self.squeeze, self.back = nn.Linear(512, 32), nn.Linear(32, 512)
        self.decoder = nn.Sequential(nn.Unflatten(1, (32, 4, 4)), nn.ConvTranspose2d(32, 24, 2, 2), nn.ReLU())
        self.last = nn.ConvTranspose2d(24, 1, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.decoder(torch.relu(self.back(torch.relu(self.squeeze(self.encoder(x)))))))


@case("yolo_head", (3, 16, 16))
class YoloHead(nn.Module):
    """Anchors taken out of the channels of an output."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_norm(3, 24, stride=2), conv_norm(24, 40), nn.Conv2d(40, 3 * 7, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        raw = self.body(x).view(-1, 3, 7, 8, 8).permute(0, 1, 3, 4, 2).contiguous()
        place, scores = raw.split((4, 3), -1)
        return place.sigmoid() * 2 - 0.5, scores.sigmoid()
