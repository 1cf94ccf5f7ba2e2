"""Small networks whose norms take statistics over the channels of a residual stream."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, HEADS, BATCH, CLASSES = 32, 4, 2, 10
IMAGE = (BATCH, 3, 16, 16)
Norm = Callable[[int], nn.Module]


class WrittenRMSNorm(nn.Module):
    """A root mean square norm written out, as decoders have it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class WrittenLayerNorm(WrittenRMSNorm):
    """A layer norm written out: mean, and variance of what is centred."""

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return self.weight * centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-5)


class NormByVariance(WrittenRMSNorm):
    """A layer norm by torch.var_mean."""

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=-1, keepdim=True, correction=0)
        return (x - mean) * torch.pow(variance + 1e-5, -0.5) * self.weight


class GlobalResponseNorm(nn.Module):
    """The norm of ConvNeXt V2, channels last."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.randn(width)), nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        size = x.norm(p=2, dim=(1, 2), keepdim=True)
        return x + self.shift + self.scale * (x * (size / (size.mean(-1, keepdim=True) + 1e-6)))


class Block(nn.Module):
    """Attention and a hidden layer beside a residual stream, each behind a norm."""

    def __init__(self, norm: Norm, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.first, self.second = norm(WIDTH), norm(WIDTH)
        self.attention, self.projection = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.attention(self.first(x)).unflatten(-1, (3, HEADS, WIDTH // HEADS))
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        x = x + self.projection(mixed.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.second(x))))


class VisionTransformer(nn.Module):
    """Patches, a token for the class, places, two blocks."""

    def __init__(self, norm: Norm = nn.LayerNorm) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 4, 4)
        self.token, self.places = nn.Parameter(torch.randn(1, 1, WIDTH)), nn.Parameter(torch.randn(1, 17, WIDTH))
        self.blocks = nn.Sequential(*(Block(norm, causal=False) for _ in range(2)))
        self.norm, self.head = norm(WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), 1) + self.places
        return self.head(self.norm(self.blocks(x))[:, 0])


class Decoder(nn.Module):
    """Numbers of tokens in, logits out, by the same table."""

    def __init__(self, norm: Norm = WrittenRMSNorm) -> None:
        super().__init__()
        self.table = nn.Embedding(50, WIDTH)
        self.blocks = nn.Sequential(*(Block(norm, causal=True) for _ in range(2)))
        self.norm, self.head = norm(WIDTH), nn.Linear(WIDTH, 50, bias=False)
        self.head.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.table(x))))


class ConvNeXt(nn.Module):
    """A block of ConvNeXt V2, and group norms of four groups and of one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise = nn.Conv2d(3, WIDTH, 4, 4), nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)
        self.norm, self.response = nn.LayerNorm(WIDTH), GlobalResponseNorm(2 * WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.groups, self.mix, self.whole = nn.GroupNorm(4, WIDTH), nn.Conv2d(WIDTH, 24, 1), nn.GroupNorm(1, 24)
        self.head = nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        hidden = self.response(F.gelu(self.up(self.norm(self.depthwise(x).permute(0, 2, 3, 1)))))
        x = F.relu(self.groups(x + self.down(hidden).permute(0, 3, 1, 2)))
        return self.head(self.whole(self.mix(x)).mean((2, 3)))


# By name: the network, and how many norms it has.
RESIDUAL: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "layer norm": (VisionTransformer, 5),
    "RMS norm": (lambda: VisionTransformer(nn.RMSNorm), 5),
    "layer norm written out": (lambda: VisionTransformer(WrittenLayerNorm), 5),
    "variance": (lambda: VisionTransformer(NormByVariance), 5),
    "decoder": (Decoder, 5),
    "ConvNeXt V2": (ConvNeXt, 4),
}


class Fixed(nn.Module):
    """A module whose batch is the example's, and no other."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x + torch.zeros(BATCH, *[1] * (x.ndim - 1), dtype=x.dtype))


def residual_network(name: str, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Tensor]:
    """Return a network of the table in evaluation, and an input of it."""
    torch.manual_seed(0)
    module = RESIDUAL[name][0]().to(dtype).eval()
    tokens = torch.arange(2 * BATCH * 3).reshape(BATCH, 6)
    return module, tokens if name == "decoder" else torch.randn(IMAGE, dtype=dtype)
