"""Classes as users write them, which keep the sizes of their layers as attributes."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

CHANNELS, TOKENS, SIDE = 32, 6, 8


class Pyramid(nn.Module):
    """Convolutions of every kind: plain, depthwise, grouped, transposed, with norms."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU())
        self.depthwise = nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False)
        self.grouped = nn.Conv2d(64, 64, 3, padding=1, groups=2)
        self.norm = nn.GroupNorm(8, 64)
        self.slopes = nn.PReLU(64)
        self.up = nn.ConvTranspose2d(64, 32, 2, stride=2)
        self.head = nn.Conv2d(32, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a map of twice the side."""
        x = self.slopes(self.norm(self.grouped(self.depthwise(self.stem(x)))))
        return self.head(torch.relu(self.up(x)))


class Attention(nn.Module):
    """Attention of several heads over one product for queries, keys and values, with a gate of each head's size."""

    def __init__(self, channels: int = CHANNELS, heads: int = 4) -> None:
        super().__init__()
        self.num_heads, self.head_dim = heads, channels // heads
        self.scale = 1.7 * self.head_dim**-0.5
        self.qkv = nn.Linear(channels, 3 * channels)
        self.q_norm = nn.LayerNorm(self.head_dim)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return mixed tokens, shape (N, tokens, channels)."""
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        weights = (self.q_norm(q) * self.scale @ k.transpose(-2, -1)).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, tokens, self.num_heads * self.head_dim))


class SeparateAttention(nn.Module):
    """The same with a product each, whose sizes have the names that language models give them."""

    def __init__(self, channels: int = CHANNELS, heads: int = 4) -> None:
        super().__init__()
        self.num_attention_heads, self.attention_head_size = heads, channels // heads
        self.all_head_size = channels
        self.query, self.key, self.value = (nn.Linear(channels, channels) for _ in range(3))
        self.out = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return mixed tokens, shape (N, tokens, channels)."""
        q, k, v = (self.heads(layer(x)) for layer in (self.query, self.key, self.value))
        mixed = functional.scaled_dot_product_attention(q, k, v).permute(0, 2, 1, 3)
        return self.out(mixed.reshape(*x.shape[:2], self.all_head_size))

    def heads(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens of each head, shape (N, heads, tokens, size)."""
        shape = (*x.shape[:2], self.num_attention_heads, self.attention_head_size)
        return x.view(shape).permute(0, 2, 1, 3)


class Splitting(nn.Module):
    """A gated product whose halves are split by sizes in a tuple, which no name tells from others."""

    def __init__(self, channels: int = CHANNELS, hidden: int = 64) -> None:
        super().__init__()
        self.parts = (hidden, hidden)
        self.first, self.second = nn.Linear(channels, hidden), nn.Linear(channels, hidden)
        self.down = nn.Linear(hidden, channels)
        self.width = hidden

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens, shape (N, tokens, channels)."""
        both = torch.cat([self.first(x), self.second(x)], dim=-1)
        value, gate = both.split(self.parts, dim=-1)
        return self.down((value * torch.sigmoid(gate)).view(*x.shape[:2], self.width))


class Blocks(nn.Module):
    """Embedded tokens, residual blocks, and an output tied to the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(40, CHANNELS)
        self.blocks = nn.ModuleList([Attention(), SeparateAttention(), Splitting()])
        self.norm = nn.LayerNorm(CHANNELS)
        self.output = nn.Linear(CHANNELS, 40, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return logits, shape (N, tokens, 40)."""
        x = self.embedding(ids)
        for block in self.blocks:
            x = x + block(x)
        return self.output(self.norm(x))


class Unguessable(nn.Module):
    """Attention in whose attributes no name speaks of heads: they are found by running it."""

    def __init__(self) -> None:
        super().__init__()
        self.ways, self.step = 4, 8
        self.mix = nn.ModuleDict({"all": nn.Sequential(nn.Linear(CHANNELS, 3 * CHANNELS))})
        self.proj = nn.Linear(CHANNELS, CHANNELS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return mixed tokens, shape (N, tokens, channels)."""
        q, k, v = self.mix["all"](x).unflatten(-1, (3, self.ways, self.step)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.proj(mixed.flatten(2))


class Spelled(nn.Module):
    """A network that spells a size out in its code."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(CHANNELS, CHANNELS)
        self.inner = Unguessable()
        self.last = SpelledView()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens, shape (N, tokens, channels)."""
        return self.last(x + self.inner(torch.relu(self.stem(x))))


class SpelledView(nn.Module):
    """The layer that does."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(CHANNELS, 64), nn.Linear(64, CHANNELS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens, shape (N, tokens, channels)."""
        return self.down(torch.relu(self.up(x).view(-1, TOKENS, 64)))


class Mean(nn.Module):
    """A network whose code divides by the size that it was made with, which no attribute holds."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(CHANNELS, 64), nn.Linear(64, CHANNELS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens, shape (N, tokens, channels)."""
        hidden = torch.relu(self.up(x))
        return self.down(hidden / hidden.shape[-1])


class Keeping(nn.Linear):
    """A layer that keeps in evaluation what it made of its weight, as long as it is not trained."""

    kept: torch.Tensor | None = None

    def train(self, mode: bool = True) -> Keeping:
        """Drop what was kept."""
        self.kept = None
        super().train(mode)
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens, shape (N, tokens, channels)."""
        if self.training or self.kept is None:
            self.kept = self.weight.t().detach() * 2
        return x @ self.kept


class Feed(nn.Module):
    """Two products with an activation in between."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(CHANNELS, hidden), nn.Linear(hidden, CHANNELS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens, shape (N, tokens, channels)."""
        return self.down(torch.relu(self.up(x)))


class Repeating(nn.Module):
    """Layers of attention and products, which are alike but for their weights and the last one's width."""

    def __init__(self, layers: int = 3) -> None:
        super().__init__()
        self.attention = nn.ModuleList(SeparateAttention() for _ in range(layers))
        self.feed = nn.ModuleList(Feed(64) for _ in range(layers))
        self.last = Feed(96)
        with torch.no_grad():
            for place in range(layers):
                # Of the first layers nearly all would stay, and of the last ones next to nothing.
                self.feed[place].get_parameter("up.weight").mul_(4.0**-place)
                self.attention[place].get_parameter("value.weight").mul_(4.0**-place)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens, shape (N, tokens, channels)."""
        for attention, feed in zip(self.attention, self.feed, strict=True):
            x = x + attention(x)
            x = x + feed(x)
        return self.last(x)
