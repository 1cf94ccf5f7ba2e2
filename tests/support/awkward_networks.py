"""Networks that fit no rule well: computed weights, shared storage, channels on odd axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.rule_networks import Example, conv, example, inside

ByName = dict[str, Example]


def weighed(weight: Callable[[Tensor, Tensor], Tensor], second: tuple[int, ...] = (6, 8, 1, 1)) -> Example:
    """Return an example whose middle convolution has a weight made of two parameters."""
    return inside(lambda net, x: F.conv2d(x, weight(net.first, net.second)), 8, 6, first=(6, 8, 1, 1), second=second)


READABLE: ByName = {
    "absolute": weighed(lambda w, v: w.abs()),
    "scaled_by_input": weighed(lambda w, v: w * v, (1, 8, 1, 1)),
    "scaled_by_output": weighed(lambda w, v: v * w, (6, 1, 1, 1)),
    "gated": weighed(lambda w, v: v.sigmoid() * w),
    "thresholded": weighed(lambda w, v: w * (w.abs() > 0.5)),
    "rounded": weighed(lambda w, v: (w * 16).round() / 16),
    "normalised_per_output": weighed(lambda w, v: w / (v.abs() + 1)),
    "flipped": weighed(lambda w, v: w.flip(1)),
    "viewed": weighed(lambda w, v: w.reshape(3, 16).reshape(6, 8, 1, 1)),
    "mixture": inside(
        lambda net, x: F.conv2d(x, (net.share[:, None, None, None, None] * net.experts).sum(0)),
        8,
        6,
        share=(3,),
        experts=(3, 6, 8, 1, 1),
    ),
    "low_rank": inside(
        lambda net, x: F.conv2d(x, (net.left @ net.right)[:, :, None, None]), 8, 6, left=(6, 2), right=(2, 8)
    ),
    "a_slice": inside(lambda net, x: F.conv2d(x, net.mid[2:8, 4:]), 8, 6, mid=(9, 12, 1, 1)),
}
UNREADABLE: ByName = {
    "exponential": weighed(lambda w, v: w.exp()),
    "sum": weighed(lambda w, v: w + v),
    "clamped": weighed(lambda w, v: w.clamp(0.1, 1.0)),
    "binary": weighed(lambda w, v: torch.where(w >= 0, 1.0, -1.0).to(w.dtype)),
    "softmax_over_outputs": weighed(lambda w, v: w.softmax(0)),
    "joined": weighed(lambda w, v: torch.cat((w, v), 0)[3:9]),
    "low_rank_update": weighed(lambda w, v: w + (v[:, :2, 0, 0] @ v[:2, :, 0, 0])[:, :, None, None]),
    "scaled_through_exponential": weighed(lambda w, v: w[:, :1] * v.exp(), (1, 8, 1, 1)),
    "generated": inside(
        lambda net, x: F.conv2d(x, net.make(net.latent).view(6, 8, 1, 1)), 8, 6, latent=(6, 3), make=nn.Linear(3, 8)
    ),
}


def shared(turned: bool) -> Example:
    """Return two layers whose parameters are two objects over one storage, the second perhaps transposed."""
    first, second = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
    second.weight = nn.Parameter(first.weight.data.t() if turned else first.weight.data)
    return example(
        lambda net, x: net.head(net.second(net.mid(net.first(net.stem(x)).relu()))),
        (2, 3),
        stem=nn.Linear(3, 8),
        first=first,
        mid=nn.Linear(8, 8),
        second=second,
        head=nn.Linear(8, 2),
    )


def hidden_buffer(net: Any, x: Tensor) -> Tensor:
    """Use one buffer under two names, neither of them in the state_dict."""
    return net.head(net.left(x) * net.one + (net.right(x) * net.two).relu())


def buffer_of_two_names() -> Example:
    """Return a network that holds one tensor twice."""
    scale = torch.arange(1.0, 9.0).view(8, 1, 1)
    layers = {"left": conv(3, 8), "right": conv(3, 8), "head": conv(8, 2)}
    return example(hidden_buffer, one=scale, two=scale, **layers)


def sampled_by_heads(batch: int | None, **layers: Any) -> Example:
    """Return deformable attention's sampling: four heads, each at its own positions, merged with the batch.

    Args:
        batch: Written as a number where the network fixes it.
        layers: ``offsets`` makes the positions, or ``grid`` holds them.
    """

    def forward(net: Any, x: Tensor) -> Tensor:
        heads = -1 if batch is None else 4 * batch
        grid = net.offsets(x).reshape(heads, 2, 4, 4).permute(0, 2, 3, 1).tanh() if "offsets" in layers else net.grid
        found = F.grid_sample(net.stem(x).reshape(heads, 2, 4, 4), grid, align_corners=False)
        return net.head(found.reshape(-1 if batch is None else batch, 8, 4, 4))

    return example(forward, (2, 3, 4, 4), stem=conv(3, 8), head=conv(8, 2), **layers)


ODD_AXES: ByName = {
    "sampled_by_heads": sampled_by_heads(None, offsets=conv(3, 8)),
    "shared_storage": shared(turned=False),
    "shared_storage_transposed": shared(turned=True),
    "buffer_of_two_names": buffer_of_two_names(),
    "channels_as_images": inside(
        lambda net, x: net.mid(x.unflatten(1, (8, 1)).transpose(0, 1)[:, 0]).unflatten(1, (1, 4)).flatten(0, 1)[:8],
        8,
        4,
        mid=conv(1, 4),
    ),
    "tiled_from_the_right": inside(lambda net, x: torch.tile(x, (2, 1, 1)), 4, 8),
    "seen_as_another_type": inside(lambda net, x: x * (x.view(torch.int64) > 0), 8),
    "picked_by_a_list": inside(lambda net, x: x[:, [0, 3, 3, -1, 6]], 8, 5),
    "sizes_with_another_type": inside(lambda net, x: x.view(torch.int32)[..., ::2].to(x.dtype), 8),
}
UNBATCHED: ByName = {
    "sampled_by_heads": sampled_by_heads(2, offsets=conv(3, 8)),
    "sampled_at_fixed_positions": sampled_by_heads(2, grid=torch.rand(8, 4, 4, 2) * 2 - 1),
    "single_image": example(lambda net, x: net.head(net.stem(x).relu()), (3, 4, 4), stem=conv(3, 8), head=conv(8, 2)),
    "channels_as_batch": example(
        lambda net, x: net.head(net.mid(net.stem(x)[:, None])[:, 0]),
        (3, 4, 4),
        stem=conv(3, 8),
        mid=conv(1, 1),
        head=conv(8, 2),
    ),
    "channels_folded_into_the_batch": example(
        lambda net, x: net.head(net.mid(net.stem(x).reshape(16, 1, 4, 4)).reshape(2, 16, 4, 4)) + x.sum(0, True)[:, :2],
        (2, 3, 4, 4),
        stem=conv(3, 8),
        mid=conv(1, 2),
        head=conv(16, 2),
    ),
    "shuffled_pixels_of_a_parameter": example(
        lambda net, x: net.head(net.stem(x) + F.pixel_shuffle(net.map, 2)[:, 0]),
        (3, 4, 4),
        stem=conv(3, 8),
        map=(8, 4, 2, 2),
        head=conv(8, 2),
    ),
}
