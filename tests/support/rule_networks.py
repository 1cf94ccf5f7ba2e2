"""The smallest networks that show what each family of channel rules does, by family and by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAP = (2, 3, 4, 4)


class Network(nn.Module):
    """A function of the module and its inputs, with named layers and parameters."""

    def __init__(self, function: Callable[..., Any], **layers: Any) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            if isinstance(layer, tuple):
                layer = nn.Parameter(torch.randn(layer))
            if isinstance(layer, Tensor) and not isinstance(layer, nn.Parameter):
                self.register_buffer(name, layer)
            else:
                setattr(self, name, layer)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self, *inputs)


@dataclass(frozen=True)
class Example:
    """A network and what it is run on.

    Args:
        function: The forward, of the module and its input.
        layers: Modules, shapes of parameters, and buffers, by name.
        inputs: The input, a batch of two.
    """

    function: Callable[..., Any]
    layers: dict[str, Any]
    inputs: Tensor

    def build(self) -> tuple[nn.Module, Tensor]:
        """Return the module in float64 and its input."""
        torch.manual_seed(0)
        return Network(self.function, **self.layers).double().eval(), self.inputs


def example(function: Callable[..., Any], inputs: Any = MAP, **layers: Any) -> Example:
    """Return an example; a shape stands for normal numbers."""
    generator = torch.Generator().manual_seed(0)
    value = inputs if isinstance(inputs, Tensor) else torch.randn(inputs, generator=generator, dtype=torch.float64)
    return Example(function, layers, value)


def conv(cin: int, cout: int, **options: Any) -> nn.Conv2d:
    """Return a pointwise convolution without bias."""
    return nn.Conv2d(cin, cout, 1, bias=False, **options)


def inside(middle: Callable[[Any, Tensor], Tensor], width: int = 4, out: int | None = None, **layers: Any) -> Example:
    """Return an example with something between a stem of some width and a head of two channels."""
    layers = {"stem": conv(3, width), "head": conv(width if out is None else out, 2), **layers}
    return example(lambda net, x: net.head(middle(net, net.stem(x))), **layers)


def attention(net: Any, x: Tensor) -> Tensor:
    """Return attention of two heads."""
    query, key, value = (part.unflatten(2, (2, 2)).transpose(1, 2) for part in net.mix(x).chunk(3, 2))
    return net.head(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


WEIGHTED = {
    "a bias follows the channels that a convolution owns": example(
        lambda net, x: net.head(net.stem(x).relu()), stem=nn.Conv2d(3, 4, 3), head=conv(4, 2)
    ),
    "depthwise with a multiplier": inside(lambda net, x: net.deep(x), 2, 4, deep=conv(2, 4, groups=2)),
    "index j of every group is one unit": inside(lambda net, x: net.mid(x), 4, 6, mid=conv(4, 6, groups=2)),
    "transposed, grouped": inside(lambda net, x: net.up(x), 4, 6, up=nn.ConvTranspose2d(4, 6, 1, groups=2, bias=False)),
    "transposed, depthwise": inside(
        lambda net, x: net.up(x), 2, 4, up=nn.ConvTranspose2d(2, 4, 1, groups=2, bias=False)
    ),
    "linear": example(
        lambda net, x: net.head(net.stem(x)), (2, 3), stem=nn.Linear(3, 4), head=nn.Linear(4, 2, bias=False)
    ),
    "embedding": example(
        lambda net, ids: net.head(net.table(ids)),
        torch.tensor([[1, 2], [0, 4]]),
        table=nn.Embedding(5, 3),
        head=nn.Linear(3, 2, bias=False),
    ),
    "a weight that zeros would not silence": inside(lambda net, x: F.conv2d(x, net.mid.exp()), mid=(4, 4, 1, 1)),
    "one weight for two layers": inside(lambda net, x: net.mid(net.mid(x)), mid=conv(4, 4)),
    "a slice of a weight": inside(lambda net, x: F.conv2d(x, net.mid[:, 2:]), mid=(4, 6, 1, 1)),
}
ELEMENTWISE = {
    "addition ties": inside(lambda net, x: x + net.mid(x).sigmoid(), mid=conv(4, 4)),
    "one channel serves all": inside(lambda net, x: x * net.gate(x), gate=conv(4, 1)),
    "per-channel slopes and a single one": inside(
        lambda net, x: net.single(net.each(x)), each=nn.PReLU(4), single=nn.PReLU()
    ),
    "the second half gates the first": inside(lambda net, x: F.glu(x, 1), 4, 2),
    "a condition ties": inside(lambda net, x: torch.where(x > 0, x, net.mid), mid=(1, 4, 1, 1)),
    "a sum with the input": example(lambda net, x: net.head(net.stem(x) + x), stem=conv(3, 3), head=conv(3, 2)),
}
NORMS = {
    "batch norm follows": inside(lambda net, x: net.norm(x), norm=nn.BatchNorm2d(4)),
    "instance norm follows": inside(lambda net, x: net.norm(x), norm=nn.InstanceNorm2d(4, affine=True)),
    "a group of a group norm is one unit": inside(lambda net, x: net.norm(x), norm=nn.GroupNorm(2, 4)),
    "a group norm of one group": inside(lambda net, x: net.norm(x), norm=nn.GroupNorm(1, 4)),
    "layer norm over the channels": inside(
        lambda net, x: net.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), norm=nn.LayerNorm(4)
    ),
    "layer norm over space": inside(lambda net, x: net.norm(x), norm=nn.LayerNorm((4, 4))),
    "weight norm": inside(
        lambda net, x: net.mid(x), mid=nn.utils.parametrizations.weight_norm(conv(4, 4), "weight", 0)
    ),
}
REDUCTIONS = {
    "a mean over space": inside(lambda net, x: x.mean((2, 3), keepdim=True)),
    "a maximum over channels": inside(lambda net, x: x * x.amax(1, keepdim=True)),
    "softmax over channels": inside(lambda net, x: x.softmax(1)),
    "softmax over space": inside(lambda net, x: x.softmax(-1)),
    "values and indices": inside(lambda net, x: x.max(2, keepdim=True)[0]),
    "sorted channels": inside(lambda net, x: x.sort(dim=1)[0]),
    "deviation over space": inside(lambda net, x: x / x.std((2, 3), keepdim=True)),
}
RESHAPING = {
    "flattened space reads a channel per pixel": example(
        lambda net, x: net.head(net.stem(x).flatten(1)),
        (2, 3, 1, 2),
        stem=conv(3, 3),
        head=nn.Linear(6, 2, bias=False),
    ),
    "permuted before it is flattened": example(
        lambda net, x: net.head(net.stem(x).permute(0, 2, 3, 1).flatten(1)),
        (2, 3, 1, 2),
        stem=conv(3, 3),
        head=nn.Linear(6, 2, bias=False),
    ),
    "a sum of two halves": inside(lambda net, x: x.unflatten(1, (2, 2)).sum(1), 4, 2),
    "pixel shuffle": inside(lambda net, x: F.pixel_shuffle(x, 2), 8, 2),
    "pixel unshuffle": inside(lambda net, x: F.pixel_unshuffle(x, 2), 2, 8),
    "each channel twice": inside(lambda net, x: x.repeat_interleave(2, 1), 2, 4),
    "all channels twice": inside(lambda net, x: torch.tile(x, (2, 1, 1)), 2, 4),
    "stretched": inside(lambda net, x: x + net.shift.expand(-1, 4, -1, -1), shift=(1, 1, 1, 1)),
    "channels become positions": inside(lambda net, x: x.transpose(1, 2)),
}
SPATIAL = {
    "pooled and resized": inside(lambda net, x: F.interpolate(F.max_pool2d(x, 2), scale_factor=2.0)),
    "a pool over channels": example(
        lambda net, x: net.head(F.avg_pool1d(net.stem(x), 2)),
        (2, 3),
        stem=nn.Linear(3, 4, bias=False),
        head=nn.Linear(2, 2, bias=False),
    ),
    "padding on the channels": inside(lambda net, x: F.pad(x, (1, 1, 0, 0, 1, 0)), 2, 3),
    "padding of a part of the channels": inside(
        lambda net, x: F.pad(x.unflatten(1, (2, 2)), (0, 0, 0, 0, 0, 1)).flatten(1, 2), 4, 6
    ),
    "columns of an image": inside(lambda net, x: F.unfold(x, 3, padding=1).unflatten(2, (4, 4)), 4, 36),
    "an image of columns": inside(lambda net, x: F.fold(x.flatten(2), (8, 8), 2, stride=2), 8, 2),
    "windows": inside(lambda net, x: x.unfold(2, 2, 1).sum(-1)),
    "windows of channels": inside(lambda net, x: x.unfold(1, 2, 1).sum(-1), 4, 3),
    "sampled": inside(lambda net, x: F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1), align_corners=False)),
}
SPLITTING = {
    "joined": inside(lambda net, x: torch.cat((net.mid(x), x), 1), 2, 5, mid=conv(2, 3)),
    "joined with the input": example(
        lambda net, x: net.head(torch.cat((net.stem(x), x), 1)), stem=conv(3, 2), head=conv(5, 2)
    ),
    "halves exchanged": inside(lambda net, x: torch.cat(x.chunk(2, 1)[::-1], 1)),
    "halves added": inside(lambda net, x: x[:, :2] + x[:, 2:], 4, 2),
    "every second one": inside(lambda net, x: x[:, ::2], 4, 2),
    "one taken out": inside(lambda net, x: x * x[:, -1:]),
    "stacked": inside(lambda net, x: torch.stack((x, net.mid(x)), 1).sum(1), mid=conv(4, 4)),
    "picked by a constant index": inside(lambda net, x: x[:, [0, 2, 2, -1]]),
    "shuffled": inside(lambda net, x: F.channel_shuffle(x, 2)),
    "gathered along space": inside(
        lambda net, x: x.gather(3, net.places.expand_as(x)), places=torch.tensor([3, 0, 1, 1])
    ),
    "gathered along channels": inside(
        lambda net, x: x.gather(1, net.places.view(1, 4, 1, 1).expand_as(x)), places=torch.tensor([3, 0, 1, 1])
    ),
    "rows picked by a matrix": inside(
        lambda net, x: x + net.table[net.places].sum((0, 1))[:, None, None],
        table=(6, 4),
        places=torch.tensor([[1, 5], [0, 2]]),
    ),
    "written into a slice": inside(lambda net, x: torch.slice_scatter(x, x[:, :2] * 2, 1, 1, 3)),
    "written at an index of space": inside(lambda net, x: torch.select_scatter(x, x[..., 1], 3, 0)),
    "written at one channel": inside(lambda net, x: torch.select_scatter(x, x[:, 1], 1, 0)),
    "flipped and rolled": inside(lambda net, x: x.flip(1).roll(1, 1)),
}
CONTRACTIONS = {
    "a matrix reads and owns": example(
        lambda net, x: net.head(net.stem(x) @ net.mid),
        (2, 3),
        stem=nn.Linear(3, 4, bias=False),
        mid=(4, 2),
        head=nn.Linear(2, 2, bias=False),
    ),
    "a matrix made of two": example(
        lambda net, x: net.head(net.stem(x) @ (net.left @ net.right)),
        (2, 3),
        stem=nn.Linear(3, 4, bias=False),
        left=(4, 2),
        right=(2, 3),
        head=nn.Linear(3, 2, bias=False),
    ),
    "einsum": inside(lambda net, x: torch.einsum("bihw,oi->bohw", x, net.mid), 4, 2, mid=(2, 4)),
    "a product of activations": inside(lambda net, x: (x.flatten(2).transpose(1, 2) @ x.flatten(2))[:, None], 4, 1),
    "heads of attention": example(
        attention, (2, 3, 4), mix=nn.Linear(4, 12, bias=False), head=nn.Linear(4, 2, bias=False)
    ),
}
CONSTANTS = {
    "zeros of a written size": inside(lambda net, x: x + torch.zeros(1, 4, 1, 1, dtype=x.dtype)),
    "new ones joined": inside(lambda net, x: torch.cat((x, x.new_ones(x.shape[0], 2, 4, 4)), 1), 4, 6),
    "a ramp": inside(lambda net, x: x + torch.arange(4, dtype=x.dtype).view(4, 1, 1)),
}
RULE_NETWORKS = {
    "weighted": WEIGHTED,
    "elementwise": ELEMENTWISE,
    "norms": NORMS,
    "reductions": REDUCTIONS,
    "reshaping": RESHAPING,
    "spatial": SPATIAL,
    "splitting": SPLITTING,
    "contractions": CONTRACTIONS,
    "constants": CONSTANTS,
}
