"""Small networks that are made of products: transformers in every spelling, and recurrences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

_WIDTH, _HEADS, _WORDS, _LENGTH = 32, 4, 50, 6


class TransposedLinear(nn.Module):
    """A linear layer by ``addmm``, its weight stored (in, out)."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(into, out)), nn.Parameter(torch.zeros(out))

    def forward(self, x: Tensor) -> Tensor:
        """Map the last axis."""
        flat = torch.addmm(self.bias, x.view(-1, x.shape[-1]), self.weight)
        return flat.view(*x.shape[:-1], self.weight.shape[1])


class Attention(nn.Module):
    """Self-attention, its two products in one of four spellings."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        self.spelling = spelling
        self.mix, self.out = TransposedLinear(_WIDTH, 3 * _WIDTH), TransposedLinear(_WIDTH, _WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, C) to the same."""
        q, k, v = (part.unflatten(2, (_HEADS, -1)).transpose(1, 2) for part in self.mix(x).split(_WIDTH, dim=2))
        return self.out(getattr(self, self.spelling)(q, k, v).transpose(1, 2).flatten(2))

    @staticmethod
    def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return scaled_dot_product_attention(q, k, v, is_causal=True)

    @staticmethod
    def matmul(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.matmul(torch.matmul(q, k.transpose(2, 3)).softmax(-1), v)

    @staticmethod
    def einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.einsum("bhqk,bhkd->bhqd", torch.einsum("bhqd,bhkd->bhqk", q, k).softmax(-1), v)

    @staticmethod
    def batched(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (part.flatten(0, 1) for part in (q, k, v))
        scores = torch.baddbmm(q.new_zeros(1, 1, 1), q, k.transpose(1, 2), alpha=0.5).softmax(-1)
        return torch.bmm(scores, v).unflatten(0, (-1, _HEADS))


class Decoder(nn.Module):
    """A language model as GPT-2 is made, its head tied to its embedding."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(_WORDS, _WIDTH), nn.Parameter(torch.randn(_LENGTH, _WIDTH))
        self.norm, self.attention = nn.LayerNorm(_WIDTH), Attention(spelling)
        self.up, self.down = TransposedLinear(_WIDTH, 64), TransposedLinear(64, _WIDTH)
        self.head = nn.Linear(_WIDTH, _WORDS, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        """Map (N, L) to (N, L, words)."""
        x = self.embed(ids) + self.place
        x = x + self.attention(self.norm(x))
        return self.head(x + self.down(self.up(x).relu()))


class Recurrent(nn.Module):
    """A recurrent layer of any kind and a head on its last step."""

    def __init__(self, layer: nn.RNNBase, width: int) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, C) to (N, 5)."""
        return self.head(self.layer(x)[0][:, -1])


class Cell(nn.Module):
    """A recurrent cell that a loop calls."""

    def __init__(self, cell: nn.RNNCellBase) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, C) to (N, hidden)."""
        state = None
        for step in range(x.shape[1]):
            state = self.cell(x[:, step], state)
        return state[0] if isinstance(state, tuple) else state


class Translator(nn.Module):
    """An encoder and a decoder of torch's own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Transformer(_WIDTH, _HEADS, 1, 1, 64, batch_first=True)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Map two texts of one length to one."""
        return self.body(source, target)


def _ids() -> tuple[Tensor, ...]:
    """Return two texts."""
    return (torch.randint(0, _WORDS, (2, _LENGTH)),)


def _steps(texts: int = 1) -> tuple[Tensor, ...]:
    """Return texts that are embedded already."""
    return tuple(torch.randn(2, _LENGTH, _WIDTH) for _ in range(texts))


def _encoder() -> nn.Module:
    """Return two layers of torch's own."""
    layer = nn.TransformerEncoderLayer(_WIDTH, _HEADS, 64, batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


_NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], tuple[Tensor, ...]]]] = {
    **{f"decoder_{name}": (lambda name=name: Decoder(name), _ids) for name in ("fused", "matmul", "einsum", "batched")},
    "transformer": (Translator, lambda: _steps(2)),
    "transformer_encoder": (_encoder, _steps),
    "lstm_stacked": (lambda: Recurrent(nn.LSTM(_WIDTH, 24, 2, batch_first=True), 24), _steps),
    "lstm_both_ways": (lambda: Recurrent(nn.LSTM(_WIDTH, 24, bidirectional=True, batch_first=True), 48), _steps),
    "lstm_projected": (lambda: Recurrent(nn.LSTM(_WIDTH, 24, proj_size=8, batch_first=True), 8), _steps),
    "gru": (lambda: Recurrent(nn.GRU(_WIDTH, 24, bias=False, batch_first=True), 24), _steps),
    "plain_recurrence": (lambda: Recurrent(nn.RNN(_WIDTH, 24, batch_first=True), 24), _steps),
    "lstm_cell": (lambda: Cell(nn.LSTMCell(_WIDTH, 24)), _steps),
    "gru_cell": (lambda: Cell(nn.GRUCell(_WIDTH, 24)), _steps),
}
NAMES = tuple(_NETWORKS)


def build(name: str) -> tuple[nn.Module, tuple[Any, ...]]:
    """Return a network in evaluation mode, and a batch of two for it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        make, inputs = _NETWORKS[name]
        return make().eval(), inputs()
