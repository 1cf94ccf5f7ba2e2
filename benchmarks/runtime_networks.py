"""The networks and single layers that ``runtime.py`` times, and the same with random blocks of zeros."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

# Kernel, input channels, output channels, height and width.
LAYERS = (
    (3, 64, 64, 56),
    (3, 128, 128, 28),
    (3, 256, 256, 14),
    (3, 512, 512, 14),
    (3, 512, 512, 7),
    (1, 64, 256, 56),
    (1, 256, 64, 56),
    (1, 128, 512, 28),
    (1, 512, 128, 28),
    (1, 256, 1024, 14),
    (1, 1024, 256, 14),
    (1, 512, 2048, 7),
    (1, 2048, 512, 7),
)


def cases(subject: str) -> list[tuple[str, nn.Module, Tensor]]:
    """Return names, modules and inputs."""
    torch.manual_seed(0)
    if subject == "layers":
        return [(f"{k}x{k} {a}->{b} at {s}", *_layer(k, a, b, s)) for k, a, b, s in LAYERS]
    if subject == "bert":
        layer = nn.TransformerEncoderLayer(768, 12, 3072, activation="gelu", batch_first=True, dropout=0.0)
        return [("BERT encoder layer, 128", _Encoder(layer), torch.randn(1, 128, 768))]
    if subject.startswith("timm."):
        import timm

        return [(subject, timm.create_model(subject[5:], pretrained=False), torch.randn(1, 3, 224, 224))]
    import torchvision

    return [(subject, getattr(torchvision.models, subject)(weights=None), torch.randn(1, 3, 224, 224))]


def _layer(kernel: int, inner: int, outer: int, size: int) -> tuple[nn.Module, Tensor]:
    """Return one convolution with a ReLU."""
    layer = nn.Sequential(nn.Conv2d(inner, outer, kernel, padding=kernel // 2), nn.ReLU())
    return layer, torch.randn(1, inner, size, size)


class _Encoder(nn.Module):
    """The layer's own operators: its fast path is one that no exporter takes."""

    def __init__(self, layer: nn.TransformerEncoderLayer) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(768, 768) for _ in range(4))
        self.up, self.down = layer.linear1, layer.linear2
        self.first, self.second = layer.norm1, layer.norm2

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens after attention and perceptron."""
        images, tokens, channels = x.shape
        heads = [part(x).view(images, tokens, 12, 64).transpose(1, 2) for part in (self.query, self.key, self.value)]
        mixed = nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).reshape(images, tokens, channels)
        x = self.first(x + self.out(mixed))
        return self.second(x + self.down(nn.functional.gelu(self.up(x))))


@torch.no_grad()
def settled(module: nn.Module, x: Tensor) -> nn.Module:
    """Return a module in eval mode, its batch norms with statistics of what they see.

    With those of a new network activations can shrink from layer to layer down to zero, or to numbers so small
    that processors take longer over them.
    """
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        module.train()(torch.randn(2, *x.shape[1:]))
    return module.eval()


@torch.no_grad()
def sparse(module: nn.Module, density: float, block: str) -> nn.Module:
    """Return a copy in which random blocks of the weights are zero."""
    rows, columns = (int(size) for size in block.split("x"))
    rng, module = np.random.default_rng(0), copy.deepcopy(module)
    for layer in module.modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear) or getattr(layer, "groups", 1) > 1 or layer.weight.shape[1] < 8:
            continue
        outer, inner = layer.weight.shape[:2]
        taps = layer.weight[0, 0].numel()
        keep = np.zeros((-(-outer // rows), -(-inner // columns), taps), np.float32)
        keep.ravel()[rng.permutation(keep.size)[: round(keep.size * density)]] = density**-0.5
        mask = keep.repeat(rows, 0).repeat(columns, 1)[:outer, :inner].reshape(layer.weight.shape)
        layer.weight.mul_(torch.from_numpy(mask))
    return module
