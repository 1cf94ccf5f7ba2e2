"""Networks with attention, token mixing and windows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.blocks import IMAGE, Apply, Residual, between, classifier, conv_norm
from tests.support.zoo.registry import case


class SelfAttention(nn.Module):
    """Multi-head attention with one projection for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        parts = self.project(x).reshape(batch, tokens, 3, self.heads, self.head_width).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))


def feed_forward(width: int) -> nn.Sequential:
    """Return a layer norm, and two linear layers that widen by two."""
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))


@case("vision_transformer", IMAGE)
class VisionTransformer(nn.Module):
    """Patches, a class token, positions, two blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 48, 4, stride=4)
        self.token, self.places = nn.Parameter(torch.zeros(1, 1, 48)), nn.Parameter(torch.zeros(1, 17, 48))
        blocks = [(Residual(nn.Sequential(nn.LayerNorm(48), SelfAttention(48, 4)))) for _ in range(2)]
        self.blocks = nn.Sequential(*(part for block in blocks for part in (block, Residual(feed_forward(48)))))
        self.norm, self.head = nn.LayerNorm(48), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.token.expand(x.size(0), -1, -1), tokens), 1) + self.places
        return self.head(self.norm(self.blocks(tokens))[:, 0])


@case("multihead_attention", (12, 32))
class MultiheadAttention(nn.Module):
    """PyTorch's own attention module beside a feed-forward part."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.rest, self.head = feed_forward(32), nn.Linear(32, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(x + self.rest(x))


@case("transformer_encoder_layer", (12, 32))
def transformer_encoder_layer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)
    return nn.Sequential(nn.Linear(32, 32), layer, nn.Linear(32, 8))


@case("cross_attention_queries", (16, 24))
class CrossAttention(nn.Module):
    """Learned queries read tokens; attention written out with ``matmul`` and ``softmax``."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(5, 32))
        self.key, self.value, self.out = nn.Linear(24, 32), nn.Linear(24, 40), nn.Linear(40, 8)

    def forward(self, x: Tensor) -> Tensor:
        scores = torch.matmul(self.queries, self.key(x).transpose(-2, -1)) * 32**-0.5
        return self.out(scores.softmax(-1) @ self.value(x))


@case("attention_with_a_bias_per_head", (10, 32))
class BiasedAttention(nn.Module):
    """Relative positions: each head has a number for each pair of tokens, looked up in a table, as in BEiT and T5."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 4
        self.project, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.table, self.whole = nn.Embedding(19, 4), nn.Parameter(torch.randn(4, 10, 10))
        places = torch.arange(10)
        self.register_buffer("places", places[:, None] - places[None] + 9)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.project(x).view(-1, 10, 3, self.heads, 8).permute(2, 0, 3, 1, 4)
        bias = self.table(self.places).permute(2, 0, 1)[None] + self.whole[None]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.out(mixed.transpose(1, 2).flatten(2))


@case("grouped_query_attention", (10, 32))
class GroupedQuery(nn.Module):
    """Four query heads over two key and value heads."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(32, 32), nn.Linear(32, 16), nn.Linear(32, 16)
        self.out = nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        query = self.query(x).unflatten(-1, (4, 8)).transpose(1, 2)
        key = self.key(x).unflatten(-1, (2, 8)).transpose(1, 2)
        value = self.value(x).unflatten(-1, (2, 8)).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        return x + self.out(mixed.transpose(1, 2).flatten(2))


@case("non_local_block", IMAGE)
class NonLocal(nn.Module):
    """Attention between all places of a map, from 1x1 convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, 40, stride=2)
        self.theta, self.phi, self.g = nn.Conv2d(40, 24, 1), nn.Conv2d(40, 24, 1), nn.Conv2d(40, 24, 1)
        self.out, self.head = nn.Conv2d(24, 40, 1), classifier(40)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        scores = self.theta(x).flatten(2).transpose(1, 2) @ self.phi(x).flatten(2)
        mixed = torch.bmm(self.g(x).flatten(2), scores.softmax(-1).transpose(1, 2))
        return self.head(x + self.out(mixed.view(-1, 24, 8, 8)))


@case("channel_attention_transposed", IMAGE)
class TransposedAttention(nn.Module):
    """Restormer: attention between channels, scaled by a learned temperature per head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.project = conv_norm(3, 32), nn.Conv2d(32, 96, 1)
        self.temperature, self.out = nn.Parameter(torch.ones(4, 1, 1)), nn.Conv2d(32, 32, 1)
        self.tail = nn.Sequential(conv_norm(32, 40), classifier(40))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        query, key, value = (part.view(-1, 4, 8, 256) for part in self.project(x).chunk(3, 1))
        scores = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1)
        mixed = (scores * self.temperature).softmax(-1) @ value
        return self.tail(x + self.out(mixed.reshape(-1, 32, 16, 16)))


@case("linear_attention", (16, 24))
class LinearAttention(nn.Module):
    """Attention without a softmax over tokens, by two products."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(24, 32), nn.Linear(24, 32), nn.Linear(24, 48)
        self.out = nn.Linear(48, 8)

    def forward(self, x: Tensor) -> Tensor:
        query, key = F.elu(self.query(x)) + 1, F.elu(self.key(x)) + 1
        context = torch.einsum("bnd,bne->bde", key, self.value(x))
        weight = torch.einsum("bnd,bd->bn", query, key.sum(1)).unsqueeze(-1)
        return self.out(torch.einsum("bnd,bde->bne", query, context) / weight)


@case("mlp_mixer", IMAGE)
class MlpMixer(nn.Module):
    """Linear layers over tokens, then over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 32, 4, stride=4), nn.Linear(32, 10)
        self.norm, self.channels = nn.LayerNorm(32), Residual(feed_forward(32))
        self.tokens = nn.Sequential(nn.Linear(16, 48), nn.GELU(), nn.Linear(48, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + self.tokens(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return self.head(self.channels(x).mean(1))


@case("conv_mixer", IMAGE)
def conv_mixer() -> nn.Module:
    depthwise = nn.Sequential(nn.Conv2d(40, 40, 5, groups=40, padding="same"), nn.GELU(), nn.BatchNorm2d(40))
    pointwise = [nn.Conv2d(40, 40, 1), nn.GELU(), nn.BatchNorm2d(40)]
    first = [nn.Conv2d(3, 40, 2, stride=2), nn.GELU(), nn.BatchNorm2d(40)]
    return nn.Sequential(*first, Residual(depthwise), *pointwise, classifier(40))


@case("pooling_mixer", IMAGE)
def pooling_mixer() -> nn.Module:
    """PoolFormer: pooling minus the identity takes the place of attention."""
    pool = Apply(lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False) - x)
    layers = nn.Sequential(nn.Conv2d(32, 64, 1), nn.GELU(), nn.Conv2d(64, 32, 1))
    return between(nn.Sequential(Residual(pool), Residual(layers)))


@case("patch_merging", IMAGE)
class PatchMerging(nn.Module):
    """Swin: four neighbours joined along channels, a norm and a linear layer, channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = conv_norm(3, 24), nn.LayerNorm(96)
        self.reduction, self.head = nn.Linear(96, 48, bias=False), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        parts = [x[:, row::2, column::2, :] for column in (0, 1) for row in (0, 1)]
        return self.head(torch.relu(self.reduction(self.norm(torch.cat(parts, -1)))).mean((1, 2)))


@case("patch_merging_without_norm", IMAGE)
class PatchMergingPlain(nn.Module):
    """The same by reshape and permute, with nothing that mixes channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.reduction, self.head = conv_norm(3, 24), nn.Linear(96, 48), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        x = x.reshape(-1, 8, 2, 8, 2, 24).permute(0, 1, 3, 4, 2, 5).flatten(3)
        return self.head(torch.relu(self.reduction(x)).mean((1, 2)))


@case("shifted_windows", IMAGE)
class ShiftedWindows(nn.Module):
    """Swin: rolled maps cut into windows that join the batch, a bias table, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.attention = nn.Conv2d(3, 32, 2, stride=2), SelfAttention(32, 4)
        self.norm, self.rest, self.head = nn.LayerNorm(32), Residual(feed_forward(32)), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        rolled = torch.roll(self.norm(x), (-2, -2), dims=(1, 2))
        windows = rolled.view(-1, 2, 4, 2, 4, 32).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, 32)
        mixed = self.attention(windows).view(-1, 2, 2, 4, 4, 32).permute(0, 1, 3, 2, 4, 5)
        x = x + torch.roll(mixed.reshape(-1, 8, 8, 32), (2, 2), dims=(1, 2))
        return self.head(self.rest(x).mean((1, 2)))
