"""Networks in whose attention a head, or a group of heads, stands among what need not go with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.registry import case

HEADS, PLACES, WIDTH = 4, 6, 8
INNER = HEADS * WIDTH
Attend = Callable[[Any, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Heads:
    """What to expect of one network: how many units its heads are."""

    attend: Attend
    units: int = HEADS
    keys: int = HEADS


class Attention(nn.Module):
    """Queries of several heads, keys and values of as many or fewer; a function mixes them."""

    def __init__(self, attend: Attend, keys: int) -> None:
        super().__init__()
        self.attend, self.keys = attend, keys
        self.query, self.key, self.value = (nn.Linear(12, n * WIDTH) for n in (HEADS, keys, keys))
        self.norm, self.slopes = nn.RMSNorm(WIDTH), nn.Parameter(torch.rand(HEADS))
        self.table, self.mlp = nn.Parameter(torch.randn(2 * PLACES - 1, HEADS)), nn.Linear(1, HEADS, bias=False)
        angles = torch.arange(PLACES)[:, None] * torch.rand(WIDTH // 2)
        self.register_buffer("cos", angles.cos().repeat(1, 2))
        self.register_buffer("sin", angles.sin().repeat(1, 2))
        self.register_buffer("apart", torch.arange(PLACES)[:, None] - torch.arange(PLACES) + PLACES - 1)
        self.out = nn.Linear(INNER, 12)

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, places, 12)."""
        query = self.query(x).view(-1, PLACES, HEADS, WIDTH).transpose(1, 2)
        key, value = (layer(x).view(-1, PLACES, self.keys, WIDTH).transpose(1, 2) for layer in (self.key, self.value))
        return x + self.out(self.attend(self, query, key, value).transpose(1, 2).reshape(-1, PLACES, INNER))


def halves(x: Tensor) -> Tensor:
    """Return the second half of each head, negated, before the first."""
    return torch.cat((-x[..., WIDTH // 2 :], x[..., : WIDTH // 2]), -1)


def rotary(net: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Turn halves of queries and keys, as Llama does."""
    query, key = (x * net.cos + halves(x) * net.sin for x in (query, key))
    return F.scaled_dot_product_attention(query, key, value, is_causal=True)


def rotary_pairs(net: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Turn neighbours of queries and keys, stacked and flattened, as GPT-J does."""

    def turn(x: Tensor) -> Tensor:
        return x * net.cos + torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2) * net.sin

    return F.scaled_dot_product_attention(turn(query), turn(key), value)


def rotary_part(net: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Turn a part of each head and pass the rest on, as NeoX does; nothing is left over of the values."""
    half = WIDTH // 2

    def turn(x: Tensor) -> Tensor:
        first = x[..., :half] * net.cos[:, :half] + x[..., :half].flip(-1) * net.sin[:, :half]
        return torch.cat((first, x[..., half:]), -1)

    value = torch.cat((value * net.cos, value[..., WIDTH:]), -1)
    return F.scaled_dot_product_attention(turn(query), turn(key), value)


def expanded(net: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Repeat keys and values by an expanded axis, and normalise queries with a scale per place in a head."""
    key, value = (x[:, :, None].expand(-1, -1, HEADS // net.keys, -1, -1).flatten(1, 2) for x in (key, value))
    return F.scaled_dot_product_attention(net.norm(query), net.norm(key), value)


def interleaved(net: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Repeat keys and values in place."""
    key, value = (x.repeat_interleave(HEADS // net.keys, 1) for x in (key, value))
    return (query @ key.transpose(-2, -1) / WIDTH**0.5).softmax(-1) @ value


def shared(net: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Let the operator share keys and values."""
    return F.scaled_dot_product_attention(query, key, value, enable_gqa=True)


def with_batch(net: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Merge batch and heads, with a slope per head in a bias of the scores, as BLOOM does."""
    batch = query.size(0)
    query, key, value = (x.reshape(batch * HEADS, PLACES, WIDTH) for x in (query, key, value))
    bias = (net.slopes[:, None] * torch.arange(PLACES)).expand(batch, -1, -1).reshape(batch * HEADS, 1, PLACES)
    scores = torch.baddbmm(bias, query, key.transpose(1, 2)).view(batch, HEADS, PLACES, PLACES)
    scores = scores.softmax(-1).view(batch * HEADS, PLACES, -1)
    return torch.bmm(scores, value).view(batch, HEADS, PLACES, WIDTH)


def with_batch_measured(net: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Merge batch and heads, and take sizes from what is merged; a mask is spread over the heads."""
    query, key, value = (x.flatten(0, 1) for x in (query, key, value))
    mask = torch.ones(query.size(0) // HEADS, 1, 1, PLACES).expand(-1, HEADS, -1, -1).reshape(-1, 1, PLACES)
    scores = (query @ key.transpose(1, 2)) * mask / (query.numel() // query.size(0)) ** 0.5
    return (scores.softmax(-1) @ value).unflatten(0, (-1, HEADS))


def gathered(net: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Gather scores by the places' distance, for batch and heads merged, as DeBERTa does."""
    query, key, value = (x.reshape(-1, PLACES, WIDTH) for x in (query, key, value))
    scores = query @ key.transpose(1, 2)
    index = (net.apart % PLACES).expand(scores.size(0), -1, -1)
    return (torch.gather(scores, -1, index).softmax(-1) @ value).view(-1, HEADS, PLACES, WIDTH)


def looked_up(net: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Add a bias looked up in a table, and one that a small network computes, as both Swins do."""
    bias = net.table[net.apart] + net.mlp(net.apart[..., None].to(query.dtype)).sigmoid()
    scores = query @ key.transpose(-2, -1) + bias.permute(2, 0, 1)[None]
    return (scores * net.slopes.clamp(max=1).exp()[:, None, None]).softmax(-1) @ value


def between_channels(net: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend between the channels of a head, as XCiT does."""
    scores = F.normalize(query, dim=-2).transpose(-2, -1) @ F.normalize(key, dim=-2)
    return (scores.softmax(-1) @ value.transpose(-2, -1)).transpose(-2, -1)


def linear_attention(net: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Divide by sums that ride on a channel of ones beside the values, as EfficientViT does."""
    summed = F.relu(key).transpose(-2, -1) @ F.pad(value, (0, 1), value=1.0)
    mixed = F.relu(query) @ summed
    return mixed[..., :-1] / (mixed[..., -1:] + 1)


ATTENTION = {
    "rotary": Heads(rotary),
    "rotary_pairs": Heads(rotary_pairs),
    "rotary_part": Heads(rotary_part),
    "expanded_keys": Heads(expanded, units=2, keys=2),
    "expanded_single_key": Heads(expanded, keys=1),
    "interleaved_keys": Heads(interleaved, units=2, keys=2),
    "shared_keys": Heads(shared, units=2, keys=2),
    "heads_with_batch": Heads(with_batch),
    "heads_with_batch_measured": Heads(with_batch_measured),
    "gathered_scores": Heads(gathered),
    "looked_up_bias": Heads(looked_up),
    "channels_of_heads": Heads(between_channels),
    "attention_with_ones": Heads(linear_attention),
}
for _name, _heads in ATTENTION.items():
    case(_name, (PLACES, 12))(lambda heads=_heads: Attention(heads.attend, heads.keys))


@case("single_key_beside_queries", (PLACES, 12))
class SingleKey(nn.Module):
    """One layer makes all queries, a key and a value, which are the last two of its heads, as in Falcon."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.out = nn.Linear(12, INNER + 2 * WIDTH), nn.Linear(INNER, 12)

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, places, 12)."""
        parts = self.mix(x).view(-1, PLACES, HEADS + 2, WIDTH).transpose(1, 2)
        query, key, value = parts[:, :-2], parts[:, [-2]], parts[:, [-1]]
        mixed = F.scaled_dot_product_attention(query, key.expand_as(query), value.expand_as(query))
        return x + self.out(mixed.transpose(1, 2).flatten(2))


@case("bias_zeroed_in_part", (PLACES, 12))
class ZeroedBias(nn.Module):
    """The keys' part of a bias is set to zero in place, as in Swin V2."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.out = nn.Linear(12, 3 * INNER), nn.Linear(INNER, 12)

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, places, 12)."""
        bias = self.mix.bias.clone()
        bias[INNER : 2 * INNER].zero_()
        mixed = F.linear(x, self.mix.weight, bias).view(-1, PLACES, 3, HEADS, WIDTH).permute(2, 0, 3, 1, 4)
        return x + self.out(F.scaled_dot_product_attention(*mixed.unbind(0)).transpose(1, 2).flatten(2))
