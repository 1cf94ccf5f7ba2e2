"""Attention in TVM's kernels equals PyTorch's: fused with every kind of mask, or spelled out as products."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

pytest.importorskip("tvm")

from tests.support.compiled_kernels import agree

pytestmark = pytest.mark.slow


class Transformer(nn.Module):
    """Patches, attention of every kind and a perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 40, 4, 4), nn.LayerNorm(40)
        self.qkv, self.out = nn.Linear(40, 120), nn.Linear(40, 40)
        self.up, self.down = nn.Linear(40, 80), nn.Linear(80, 40)
        self.token = nn.Parameter(torch.randn(1, 1, 40))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return tokens after a block, and what other masks give."""
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        images, tokens, channels = x.shape
        query, key, value = self.qkv(self.norm(x)).reshape(images, tokens, 3, 5, 8).permute(2, 0, 3, 1, 4).unbind(0)
        band = torch.ones(tokens, tokens, dtype=torch.bool).triu(-3)
        kinds = (
            F.scaled_dot_product_attention(query, key, value, scale=0.3),
            F.scaled_dot_product_attention(query, key, value, is_causal=True),
            F.scaled_dot_product_attention(query, key, value, attn_mask=band),
        )
        plain, *masked = (part.transpose(1, 2).reshape(images, tokens, channels) for part in kinds)
        x = x + self.out(plain)
        x = x + self.down(F.gelu(self.up(self.norm(x))))
        return x, x[:, 0], *masked


@pytest.mark.parametrize(("batch", "mcpu"), [(1, None), (3, "avx2")])
def test_attention(batch: int, mcpu: str | None) -> None:
    torch.manual_seed(0)
    agree(Transformer(), [torch.randn(batch, 3, 20, 24)], mcpu)


class SpelledOut(nn.Module):
    """Attention written as products and a softmax, and a product of matrices of one image with all."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(24, 72)
        self.table = nn.Parameter(torch.randn(3, 21, 21))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return mixed tokens and products."""
        images, tokens, channels = x.shape
        query, key, value = self.qkv(x).reshape(images, tokens, 3, 3, 8).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (query * 8**-0.5) @ key.transpose(-2, -1) + self.table
        mixed = torch.softmax(scores, -1) @ value
        return (
            mixed.transpose(1, 2).reshape(images, tokens, channels),
            torch.bmm(x, x.transpose(1, 2)),
            self.table[:1] @ x,
        )


@pytest.mark.parametrize("batch", [1, 2])
def test_products_and_softmax(batch: int) -> None:
    torch.manual_seed(0)
    agree(SpelledOut(), [torch.randn(batch, 21, 24)])
