"""Networks whose forward computes constants from parameters, buffers and literals alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

BATCH = 2
IMAGE, TOKENS, FEATURES = (3, 8, 8), (9, 16), (12,)


class Computed(nn.Module):
    """Compute a weight by a formula."""

    def __init__(self, formula: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.formula = formula

    def forward(self, weight: Tensor) -> Tensor:
        """Map a weight to one of its shape."""
        return self.formula(weight)


def computed(layer: nn.Module, formula: Callable[[Tensor], Tensor]) -> nn.Module:
    """Return a layer whose weight is computed by a formula."""
    parametrize.register_parametrization(layer, "weight", Computed(formula))
    return layer


def chain(change: Callable[[nn.Module], nn.Module], kind: type[nn.Module] = nn.Conv2d) -> nn.Module:
    """Return three layers in a row, each changed."""
    options = () if kind is nn.Linear else (3, 1, 1)
    widths = ((12, 24), (24, 32), (32, 8)) if kind is nn.Linear else ((3, 24), (24, 32), (32, 8))
    layers = [change(kind(*pair, *options)) for pair in widths]
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


class StandardisedConv2d(nn.Conv2d):
    """A convolution whose weight is standardised by a batch norm over its rows, as NFNets and BiT have it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        self.gain = nn.Parameter(torch.rand(outputs, 1, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve with the standardised weight."""
        rows, scale = self.weight.reshape(1, self.out_channels, -1), (self.gain * 0.3).view(-1)
        weight = F.batch_norm(rows, None, None, weight=scale, training=True, momentum=0.0, eps=1e-6)
        return F.conv2d(x, weight.reshape_as(self.weight), self.bias, padding=1)


class LowRankUpdate(nn.Linear):
    """A linear layer with a low-rank update of its weight."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.down, self.up = nn.Parameter(torch.randn(4, inputs) / 3), nn.Parameter(torch.randn(outputs, 4) / 3)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply by the sum."""
        return F.linear(x, self.weight + self.up @ self.down * 0.5, self.bias)


class SummedKernels(nn.Module):
    """A 3x3 and a 1x1 branch with norms, folded to one kernel in the forward."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(inputs, outputs, 3, bias=False), nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve with the sum."""
        kernels, shifts = [], []
        for norm, kernel in zip(self.norms, (self.wide.weight, F.pad(self.narrow.weight, [1, 1, 1, 1])), strict=True):
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            kernels.append(kernel * scale[:, None, None, None])
            shifts.append(norm.bias - norm.running_mean * scale)
        return F.conv2d(x, kernels[0] + kernels[1], shifts[0] + shifts[1], padding=1)


class Attention(nn.Module):
    """Attention whose query, key and value weights are joined in the forward, with a bias for each pair of positions.

    The bias comes from a small network of coordinates.
    """

    coordinates: Tensor

    def __init__(self, width: int = 16, heads: int = 4, tokens: int = 9) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, width)
        self.parts = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.position = nn.Sequential(nn.Linear(1, 24), nn.ReLU(), nn.Linear(24, heads, bias=False))
        steps = torch.arange(tokens)
        self.register_buffer("coordinates", (steps[:, None] - steps[None, :]).float()[..., None] / tokens)

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        weight = torch.cat([part.weight for part in self.parts])
        bias = torch.cat([part.bias for part in self.parts])
        shape = (*x.shape[:2], 3, self.heads, x.shape[2] // self.heads)
        query, key, value = F.linear(self.norm(x), weight, bias).reshape(shape).permute(2, 0, 3, 1, 4).unbind(0)
        pairs = 4 * torch.sigmoid(self.position(self.coordinates).permute(2, 0, 1))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=pairs[None])
        return x + self.out(mixed.transpose(1, 2).flatten(2))


class Ramp(nn.Module):
    """A ramp over the channels, and channels that are picked by a computed index."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 24, 3), nn.Conv2d(24, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Add, pick, and convolve."""
        x = self.first(x) * torch.linspace(0.5, 1, 24, dtype=x.dtype).view(1, -1, 1, 1)
        return self.second(torch.relu(x)[:, 23 - torch.arange(24)])


class TwoUses(nn.Module):
    """One weight that a layer reads as it is and another layer as a formula."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(12, 24), nn.Linear(24, 24), nn.Linear(24, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Read the weight twice."""
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.last(torch.relu(F.linear(x, self.second.weight.softmax(1))))


class Fixed(nn.Module):
    """A network for a fixed batch."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Pin the batch."""
        return self.inner(x.reshape(BATCH, *x.shape[1:]))


def quantised(weight: Tensor) -> Tensor:
    """Round a weight to levels of its largest element."""
    step = weight.abs().amax() / 127
    return torch.round(torch.clamp(weight / step, -127, 127)) * step


FORMULAS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda w: w.softmax(1),
    "cosine": torch.cos,
    "exponential": lambda w: torch.exp(w) / 30,
    "shifted": lambda w: w + 0.01,
    "standardised": lambda w: (w - w.mean()) / w.std() / 9,
    "standardised by rows": lambda w: (w - w.mean((1, 2, 3), keepdim=True)) / w.std((1, 2, 3), keepdim=True) / 9,
    "normalised": lambda w: w / w.norm(),
    "normalised by columns": lambda w: w / w.norm(dim=1, keepdim=True),
    "scaled by the largest": lambda w: torch.tanh(w) / torch.tanh(w).abs().max(),
    "quantised": quantised,
}
# By name: what makes the network, and the shape of a sample.
CONSTANT_NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "a softmax of each weight": (lambda: chain(lambda layer: computed(layer, FORMULAS["softmax"])), IMAGE),
    "quantised weights": (lambda: chain(lambda layer: computed(layer, quantised), nn.Linear), FEATURES),
    "weight norm over inputs": (lambda: chain(lambda layer: parametrizations.weight_norm(layer, dim=1)), IMAGE),
    "weight norm over all": (lambda: chain(lambda layer: parametrizations.weight_norm(layer, dim=None)), IMAGE),
    "spectral norm": (lambda: chain(parametrizations.spectral_norm), IMAGE),
    "spectral norm by a hook": (lambda: chain(nn.utils.spectral_norm, nn.Linear), FEATURES),
    "orthogonal": (lambda: chain(parametrizations.orthogonal, nn.Linear), FEATURES),
    "standardised convolutions": (
        lambda: nn.Sequential(StandardisedConv2d(3, 24), nn.ReLU(), StandardisedConv2d(24, 16), nn.Conv2d(16, 4, 1)),
        IMAGE,
    ),
    "low-rank updates": (
        lambda: nn.Sequential(LowRankUpdate(12, 24), nn.ReLU(), LowRankUpdate(24, 32), nn.ReLU(), nn.Linear(32, 8)),
        FEATURES,
    ),
    "summed kernels": (
        lambda: nn.Sequential(SummedKernels(3, 24), nn.ReLU(), SummedKernels(24, 32), nn.ReLU(), nn.Conv2d(32, 4, 1)),
        IMAGE,
    ),
    "joined weights and a bias of positions": (lambda: nn.Sequential(Attention(), Attention()), TOKENS),
    "ramps and indices": (Ramp, IMAGE),
    "one weight of two uses": (TwoUses, FEATURES),
}


def build(name: str, dtype: torch.dtype, fixed: bool = False) -> tuple[nn.Module, Tensor]:
    """Return a network of the table in evaluation mode, for a free or a fixed batch, and inputs."""
    factory, shape = CONSTANT_NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = factory()
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.running_mean.uniform_(-0.5, 0.5)
                norm.running_var.uniform_(0.5, 1.5)
        inputs = torch.randn(BATCH, *shape)
    module = Fixed(module) if fixed else module
    return module.eval().to(dtype), inputs.to(dtype)
