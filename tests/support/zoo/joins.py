"""Networks whose branches meet by addition or concatenation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.blocks import IMAGE, Apply, Residual, between, classifier, conv_norm
from tests.support.zoo.registry import case


def basic_body(cin: int, cout: int, stride: int = 1) -> nn.Sequential:
    """Return two 3x3 convolutions, the second without an activation."""
    return nn.Sequential(conv_norm(cin, cout, stride=stride), nn.Conv2d(cout, cout, 3, padding=1), nn.BatchNorm2d(cout))


@case("residual_identity", IMAGE)
def residual_identity() -> nn.Module:
    return between(nn.Sequential(Residual(basic_body(32, 32)), nn.ReLU(), Residual(basic_body(32, 32))))


@case("residual_projection", IMAGE)
def residual_projection() -> nn.Module:
    shortcut = nn.Sequential(nn.Conv2d(32, 48, 1, stride=2, bias=False), nn.BatchNorm2d(48))
    return between(nn.Sequential(Residual(basic_body(32, 48, 2), shortcut), nn.ReLU(inplace=True)), 32, 48)


@case("residual_bottlenecks", IMAGE)
def residual_bottlenecks() -> nn.Module:
    def body() -> nn.Module:
        return nn.Sequential(conv_norm(48, 16, 1), conv_norm(16, 16), nn.Conv2d(16, 48, 1), nn.BatchNorm2d(48))

    return between(nn.Sequential(Residual(body()), nn.ReLU(), Residual(body()), nn.ReLU()), 48)


@case("residual_preactivation", IMAGE)
def residual_preactivation() -> nn.Module:
    def body() -> nn.Module:
        first = [nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 24, 3, padding=1)]
        return nn.Sequential(*first, nn.BatchNorm2d(24), nn.ReLU(), nn.Conv2d(24, 32, 3, padding=1))

    return between(nn.Sequential(Residual(body()), Residual(body()), nn.BatchNorm2d(32)))


@case("residual_with_input", IMAGE)
def residual_with_input() -> nn.Module:
    body = nn.Sequential(conv_norm(3, 32), conv_norm(32, 24), nn.Conv2d(24, 3, 3, padding=1))
    return Residual(body)


@case("residual_pool_shortcut", IMAGE)
def residual_pool_shortcut() -> nn.Module:
    def shortcut(x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, 2)
        return torch.cat((x, torch.zeros_like(x)), 1)

    return between(Residual(basic_body(24, 48, 2), Apply(shortcut)), 24, 48)


@case("dense_concat", IMAGE)
class DenseConcat(nn.Module):
    """DenseNet: each layer reads everything before it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, 24)
        widths = [24 + 16 * index for index in range(4)]
        self.layers = nn.ModuleList(self._layer(width) for width in widths)
        self.transition = nn.Sequential(nn.BatchNorm2d(88), nn.ReLU(), nn.Conv2d(88, 40, 1), nn.AvgPool2d(2))
        self.head = classifier(40)

    @staticmethod
    def _layer(width: int) -> nn.Module:
        return nn.Sequential(
            nn.BatchNorm2d(width),
            nn.ReLU(),
            conv_norm(width, 32, 1),
            nn.Conv2d(32, 16, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return self.head(self.transition(torch.cat(features, 1)))


class Branches(nn.Module):
    """The concatenation of what several modules make of one input."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


@case("inception_branches", IMAGE)
def inception_branches() -> nn.Module:
    factored = nn.Sequential(nn.Conv2d(32, 16, (1, 3), padding=(0, 1)), nn.Conv2d(16, 16, (3, 1), padding=(1, 0)))
    pooled = nn.Sequential(nn.AvgPool2d(3, 1, 1), conv_norm(32, 8, 1))
    wide = Branches(conv_norm(32, 16, 1), nn.Sequential(conv_norm(32, 24, 1), conv_norm(24, 24)), factored, pooled)
    reduction = Branches(conv_norm(64, 24, stride=2), nn.MaxPool2d(3, 2, 1))
    return between(nn.Sequential(wide, reduction), 32, 88)


@case("googlenet", IMAGE)
def googlenet() -> nn.Module:
    def inception(cin: int) -> nn.Module:
        three = nn.Sequential(conv_norm(cin, 16, 1), conv_norm(16, 24))
        five = nn.Sequential(conv_norm(cin, 8, 1), conv_norm(8, 16, 5))
        pool = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), conv_norm(cin, 8, 1))
        return Branches(conv_norm(cin, 16, 1), three, five, pool)

    return between(nn.Sequential(inception(32), nn.MaxPool2d(3, 2, ceil_mode=True), inception(64)), 32, 64)


@case("squeezenet_fire", IMAGE)
def squeezenet_fire() -> nn.Module:
    def fire(cin: int) -> nn.Module:
        expand = Branches(
            nn.Sequential(nn.Conv2d(16, 24, 1), nn.ReLU(True)),
            nn.Sequential(nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(True)),
        )
        return nn.Sequential(nn.Conv2d(cin, 16, 1), nn.ReLU(inplace=True), expand)

    head = [nn.Dropout(), nn.Conv2d(48, 10, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(conv_norm(3, 32, stride=2), fire(32), fire(48), *head)


class UNet(nn.Module):
    """Two levels with concatenated skips."""

    def __init__(self, transposed: bool) -> None:
        super().__init__()
        self.transposed = transposed
        self.down = nn.ModuleList([conv_norm(3, 16), conv_norm(16, 24), conv_norm(24, 40)])
        self.rise = nn.ModuleList(nn.ConvTranspose2d(c, c, 2, stride=2) for c in (40, 24)) if transposed else None
        self.up = nn.ModuleList([conv_norm(40 + 24, 24), conv_norm(24 + 16, 16)])
        self.last = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for level, block in enumerate(self.up):
            skip = skips[-2 - level]
            x = self.rise[level](x) if self.rise else F.interpolate(x, size=skip.shape[-2:], mode="bilinear")
            x = block(torch.cat([skip, x], 1))
        return self.last(x)


@case("unet_interpolate", (3, 16, 24))
def unet_interpolate() -> nn.Module:
    return UNet(transposed=False)


@case("unet_transposed", IMAGE)
def unet_transposed() -> nn.Module:
    return UNet(transposed=True)


@case("feature_pyramid", (3, 32, 32))
class FeaturePyramid(nn.Module):
    """Top-down additions over lateral 1x1 convolutions, and one head shared by all levels."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([conv_norm(3, 16, stride=2), conv_norm(16, 32, stride=2), conv_norm(32, 48)])
        self.lateral = nn.ModuleList(nn.Conv2d(width, 24, 1) for width in (16, 32, 48))
        self.head = nn.Sequential(conv_norm(24, 32), nn.Conv2d(32, 5, 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        top = self.lateral[2](levels[2])
        middle = self.lateral[1](levels[1]) + top
        bottom = self.lateral[0](levels[0]) + F.interpolate(middle, scale_factor=2.0, mode="nearest")
        return [self.head(level) for level in (bottom, middle, top)]


@case("exchange_between_resolutions", IMAGE)
class Exchange(nn.Module):
    """HRNet: two resolutions that add to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = conv_norm(3, 24), conv_norm(3, 40, stride=2)
        self.down = nn.Conv2d(24, 40, 3, stride=2, padding=1)
        self.up = nn.Sequential(nn.Conv2d(40, 24, 1), nn.BatchNorm2d(24), nn.Upsample(scale_factor=2))
        self.heads = nn.ModuleList([classifier(24), classifier(40)])

    def forward(self, x: Tensor) -> Tensor:
        fine, coarse = self.fine(x), self.coarse(x)
        fine, coarse = torch.relu(fine + self.up(coarse)), torch.relu(coarse + self.down(fine))
        return self.heads[0](fine) + self.heads[1](coarse)


@case("fcn_head", (3, 32, 32))
class FullyConvolutional(nn.Module):
    """A segmentation head resized to its input, in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(conv_norm(3, 32, stride=2), conv_norm(32, 48, stride=2))
        self.classifier = nn.Sequential(conv_norm(48, 24), nn.Dropout(0.1), nn.Conv2d(24, 5, 1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        logits = self.classifier(self.backbone(x))
        return {"out": F.interpolate(logits, size=x.shape[-2:], mode="bilinear", align_corners=False)}


@case("deeplab_aspp", (3, 32, 32))
class SpatialPyramid(nn.Module):
    """Dilated branches and an image-level branch that is spread over space."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(conv_norm(3, 24, stride=2), conv_norm(24, 40, stride=2))
        self.branches = nn.ModuleList([conv_norm(40, 16, 1), conv_norm(40, 16, dilation=2), conv_norm(40, 16)])
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv_norm(40, 16, 1))
        self.project = nn.Sequential(conv_norm(64, 24, 1), nn.Conv2d(24, 5, 1))

    def forward(self, x: Tensor) -> Tensor:
        features = self.backbone(x)
        pooled = F.interpolate(self.pooled(features), size=features.shape[-2:], mode="bilinear")
        joined = torch.cat([*(branch(features) for branch in self.branches), pooled], 1)
        return F.interpolate(self.project(joined), size=x.shape[-2:], mode="bilinear")


@case("concat_with_input_and_itself", IMAGE)
def concat_with_input_and_itself() -> nn.Module:
    twice = Apply(lambda x: torch.cat((x, x.neg(), x[:, :8]), 1))
    first = Branches(conv_norm(3, 29), nn.Identity())
    return nn.Sequential(first, twice, conv_norm(72, 32), conv_norm(32, 24), classifier(24))


@case("concat_over_space", IMAGE)
def concat_over_space() -> nn.Module:
    class Sides(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = conv_norm(24, 32), conv_norm(24, 32)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat((self.left(x), self.right(x)), dim=-1)

    return between(Sides(), 24, 32)


@case("stack_and_sum", IMAGE)
def stack_and_sum() -> nn.Module:
    class Stacked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branches = nn.ModuleList([conv_norm(24, 40, 1), conv_norm(24, 40), conv_norm(24, 40, 5)])

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([branch(x) for branch in self.branches], dim=1).sum(1)

    return between(Stacked(), 24, 40)


@case("concat_over_batch", IMAGE)
class ConcatOverBatch(nn.Module):
    """Two views of the input run as one batch and are compared at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_norm(3, 32), conv_norm(32, 24), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        both = self.body(torch.cat((x, x.flip(3)), 0))
        return self.head((both[: x.size(0)] - both[x.size(0) :]).abs())
