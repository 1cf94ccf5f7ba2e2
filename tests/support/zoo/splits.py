"""Networks that take channels apart: chunk, split, slice, select, index, unbind, roll, flip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from tests.support.zoo.blocks import IMAGE, Apply, Residual, between, classifier, conv_norm
from tests.support.zoo.registry import case


class C2f(nn.Module):
    """YOLOv8's cross-stage block: half of the channels go through bottlenecks, all are joined."""

    def __init__(self, parting: Literal["chunk", "split", "slice"]) -> None:
        super().__init__()
        self.parting = parting
        self.first = conv_norm(32, 48, 1)
        self.blocks = nn.ModuleList(Residual(nn.Sequential(conv_norm(24, 24), conv_norm(24, 24))) for _ in range(2))
        self.last = conv_norm(96, 40, 1)

    def part(self, x: Tensor) -> list[Tensor]:
        """Return the two halves of the channels."""
        if self.parting == "chunk":
            return list(x.chunk(2, 1))
        if self.parting == "split":
            return list(x.split((24, 24), dim=1))
        return [x[:, :24], x[:, 24:]]

    def forward(self, x: Tensor) -> Tensor:
        parts = self.part(self.first(x))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.last(torch.cat(parts, 1))


@case("c2f_chunk", IMAGE)
def c2f_chunk() -> nn.Module:
    return between(C2f("chunk"), 32, 40)


@case("c2f_split", IMAGE)
def c2f_split() -> nn.Module:
    return between(C2f("split"), 32, 40)


@case("c2f_slice", IMAGE)
def c2f_slice() -> nn.Module:
    return between(C2f("slice"), 32, 40)


@case("cross_stage_partial", IMAGE)
class CrossStagePartial(nn.Module):
    """CSPDarknet: uneven parts by one split size, residuals on one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, 48)
        self.body = nn.Sequential(Residual(conv_norm(32, 32)), Residual(conv_norm(32, 32)))
        self.head = nn.Sequential(conv_norm(48, 24), classifier(24))

    def forward(self, x: Tensor) -> Tensor:
        deep, shallow = self.stem(x).split(32, dim=1)
        return self.head(torch.cat((shallow, self.body(deep)), 1))


@case("res2net", IMAGE)
class Res2Net(nn.Module):
    """Splits that are added to one another on the way through small convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.spread = conv_norm(3, 40), conv_norm(40, 64, 1)
        self.convs = nn.ModuleList(conv_norm(16, 16) for _ in range(3))
        self.gather = nn.Sequential(nn.Conv2d(64, 40, 1, bias=False), nn.BatchNorm2d(40))
        self.head = classifier(40)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        parts = torch.split(self.spread(x), 16, 1)
        outputs = [self.convs[0](parts[0])]
        for conv, part in zip(list(self.convs)[1:], parts[1:], strict=False):
            outputs.append(conv(outputs[-1] + part))
        return self.head(torch.relu(self.gather(torch.cat([*outputs, parts[3]], 1)) + x))


def _expression(name: str, function: Callable[[Tensor], Tensor], cin: int, cout: int) -> None:
    """Register one expression between two convolutions."""
    case(name, IMAGE)(lambda: between(Apply(function), cin, cout))


_expression("slice_first_channels", lambda x: x[:, :20], 40, 20)
_expression("slice_every_second", lambda x: x[:, ::2], 48, 24)
_expression("slice_overlapping", lambda x: x[:, :32] * x[:, 8:40], 40, 32)
_expression("slice_negative", lambda x: x[:, -24:] + x[:, :-24], 48, 24)
_expression("narrow", lambda x: x.narrow(1, 4, 24), 40, 24)
_expression("select_one_channel", lambda x: x * torch.sigmoid(x[:, 3:4]) + x[:, 5].unsqueeze(1), 40, 40)
_expression("chunk_unequal", lambda x: x.chunk(3, dim=1)[2] + x.chunk(3, 1)[0][:, :12], 40, 12)
_expression("chunk_three_multiply", lambda x: x.chunk(3, 1)[0] * x.chunk(3, 1)[1], 48, 16)
_expression("tensor_split", lambda x: torch.tensor_split(x, (16,), dim=1)[1], 40, 24)
_expression("unbind_after_unflatten", lambda x: torch.stack(x.unflatten(1, (2, 24)).unbind(1)[::-1], 1).sum(1), 48, 24)
_expression("index_list", lambda x: x[:, [7, 0, 3, 3, *range(8, 28)]], 40, 24)
_expression("index_select", lambda x: x.index_select(1, torch.arange(39, 7, -1)), 40, 32)
_expression("roll_on_channels", lambda x: x + x.roll(5, 1), 40, 40)
_expression("flip_on_channels", lambda x: x.flip(1) - x, 40, 40)
_expression("roll_and_flip_on_space", lambda x: x.roll((1, -1), (2, 3)) + x.flip(-1, -2), 40, 40)
_expression("repeat_channels", lambda x: x.repeat(1, 2, 1, 1), 24, 48)
_expression("repeat_interleave_channels", lambda x: x.repeat_interleave(2, 1), 24, 48)
_expression("cumulative_sum_over_channels", lambda x: x.cumsum(1) / 40, 40, 40)
_expression("sort_over_channels", lambda x: x.sort(1).values, 40, 40)


@case("index_buffer", IMAGE)
class IndexBuffer(nn.Module):
    """Channels chosen by a registered index buffer, as an earlier pruner leaves behind."""

    chosen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, 48)
        self.register_buffer("chosen", torch.randperm(48)[:24])
        self.tail = nn.Sequential(conv_norm(24, 32), classifier(32))

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(torch.index_select(self.stem(x), 1, self.chosen))


@case("partial_convolution", IMAGE)
class PartialConvolution(nn.Module):
    """FasterNet: a convolution on the first channels only, the rest untouched, residual around."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, 48)
        self.part = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.mix = nn.Sequential(conv_norm(48, 64, 1), nn.Conv2d(64, 48, 1))
        self.head = classifier(48)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        first, rest = torch.split(x, [16, 32], dim=1)
        return self.head(x + self.mix(torch.cat((self.part(first), rest), 1)))


@case("ghost_module", IMAGE)
class Ghost(nn.Module):
    """GhostNet: cheap depthwise copies beside the originals, the surplus sliced away."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, 24)
        self.primary, self.cheap = conv_norm(24, 24, 1), conv_norm(24, 24, groups=24)
        self.tail = nn.Sequential(conv_norm(40, 32), classifier(32))

    def forward(self, x: Tensor) -> Tensor:
        primary = self.primary(self.stem(x))
        return self.tail(torch.cat((primary, self.cheap(primary)), 1)[:, :40])
