"""Shared modules, tied parameters, free parameters and buffers along channels, constants."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.blocks import IMAGE, Residual, between, classifier, conv_norm
from tests.support.zoo.registry import case


@case("module_called_twice", IMAGE)
class CalledTwice(nn.Module):
    """One convolution applied to its own output: its inputs are its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.shared = conv_norm(3, 40), conv_norm(40, 40)
        self.tail = nn.Sequential(conv_norm(40, 24), classifier(24))

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.shared(self.shared(self.stem(x))))


@case("module_shared_by_branches", IMAGE)
class SharedByBranches(nn.Module):
    """One convolution applied to two different maps, then each read by its own layer."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.shared = conv_norm(3, 32), conv_norm(3, 32, 5), conv_norm(32, 40)
        self.read_left, self.read_right = conv_norm(40, 24), conv_norm(40, 24, 1)
        self.head = classifier(48)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.shared(self.left(x)), self.shared(self.right(x))
        return self.head(torch.cat((self.read_left(left), self.read_right(right)), 1))


@case("shared_convolution_own_norms", IMAGE)
class SharedOwnNorms(nn.Module):
    """One convolution, a batch norm per call, as in RetinaNet heads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = conv_norm(3, 32), nn.Conv2d(32, 32, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(32) for _ in range(3))
        self.tail = nn.Sequential(conv_norm(32, 24), classifier(24))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for norm in self.norms:
            x = torch.relu(norm(self.conv(x)))
        return self.tail(x)


@case("siamese", IMAGE, IMAGE)
class Siamese(nn.Module):
    """One body over two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_norm(3, 32), conv_norm(32, 40), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(80, 2)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.head(torch.cat((self.body(first), self.body(second)), 1))


@case("tied_convolutions", IMAGE)
def tied_convolutions() -> nn.Module:
    """Two modules hold the same weight under two names."""
    first, second = nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)
    second.weight = first.weight
    return between(nn.Sequential(first, nn.ReLU(), conv_norm(32, 32), second, nn.ReLU()))


@case("tied_autoencoder", (40,))
class TiedAutoencoder(nn.Module):
    """The decoder's weight is the encoder's, transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(40, 64), nn.Linear(64, 24)
        self.bias = nn.Parameter(torch.zeros(64))

    def forward(self, x: Tensor) -> Tensor:
        code = torch.relu(self.second(torch.relu(self.first(x))))
        return F.linear(torch.relu(F.linear(code, self.second.weight.t(), self.bias)), self.first.weight.t())


@case("tied_embedding", example=lambda: (torch.randint(0, 50, (2, 9)),))
class TiedEmbedding(nn.Module):
    """The output layer reads the embedding table."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.body = (
            nn.Embedding(50, 32),
            nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32)),
        )
        self.head = nn.Linear(32, 50, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.body(self.embed(ids)))


@case("tied_norms", IMAGE)
def tied_norms() -> nn.Module:
    first, second = nn.BatchNorm2d(32), nn.BatchNorm2d(32)
    second.weight, second.bias = first.weight, first.bias
    layers = [nn.Conv2d(32, 32, 3, padding=1), first, nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), second]
    return between(nn.Sequential(*layers))


@case("prelu_per_channel", IMAGE)
def prelu_per_channel() -> nn.Module:
    return between(nn.Sequential(nn.Conv2d(32, 40, 3), nn.PReLU(40), nn.Conv2d(40, 24, 3), nn.PReLU(24)), 32, 24)


@case("prelu_single", IMAGE)
def prelu_single() -> nn.Module:
    return between(nn.Sequential(nn.Conv2d(32, 40, 3), nn.PReLU(), nn.Conv2d(40, 24, 3), nn.PReLU()), 32, 24)


@case("prelu_on_features", (24,))
def prelu_on_features() -> nn.Module:
    return nn.Sequential(nn.Linear(24, 64), nn.PReLU(64), nn.Linear(64, 32), nn.PReLU(), nn.Linear(32, 10))


class Scale(nn.Module):
    """A learned scale and bias per channel, in shapes that broadcast."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1, width, 1, 1))
        self.bias = nn.Parameter(torch.zeros(width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma + self.bias


@case("layer_scale_and_bias", IMAGE)
def layer_scale_and_bias() -> nn.Module:
    return between(nn.Sequential(Residual(nn.Sequential(conv_norm(40, 40), Scale(40))), Scale(40)), 40)


@case("position_table", IMAGE)
class PositionTable(nn.Module):
    """A learned map per channel added to the features."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.table = conv_norm(3, 32), nn.Parameter(torch.zeros(1, 32, 16, 16))
        self.tail = nn.Sequential(conv_norm(32, 40), classifier(40))

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.stem(x) + self.table)


@case("buffer_per_channel", IMAGE)
class BufferPerChannel(nn.Module):
    """Registered buffers along the channels: one in the state_dict and one not."""

    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.tail = conv_norm(3, 40), nn.Sequential(conv_norm(40, 32), classifier(32))
        self.register_buffer("scale", 0.5 + torch.rand(40, 1, 1))
        self.register_buffer("shift", torch.randn(1, 40, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.stem(x) * self.scale - self.shift)


@case("normalised_input", IMAGE)
class NormalisedInput(nn.Module):
    """Preprocessing inside the network: mean and deviation buffers on the input."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.body = nn.Sequential(conv_norm(3, 32), conv_norm(32, 24), classifier(24))

    def forward(self, x: Tensor) -> Tensor:
        return self.body((x - self.mean) / self.deviation)


@case("constants_in_forward", IMAGE)
class ConstantsInForward(nn.Module):
    """Tensors that the forward makes: a ramp per channel, coordinates as extra channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.tail = conv_norm(3, 38), nn.Sequential(conv_norm(40, 24), classifier(24))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x) + torch.linspace(0, 1, 38, dtype=x.dtype).view(1, 38, 1, 1)
        line = torch.linspace(-1, 1, 16, dtype=x.dtype).expand(x.size(0), 1, 16, 16)
        return self.tail(torch.cat((x, line, line.transpose(2, 3)), 1) + torch.ones((), dtype=x.dtype))


@case("scalar_parameters", IMAGE)
class ScalarParameters(nn.Module):
    """Learned scalars on a sum of branches, softmaxed or not (BiFPN, ReZero)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = conv_norm(3, 24), conv_norm(24, 40), conv_norm(24, 40, 1)
        self.weights, self.alpha = nn.Parameter(torch.ones(2)), nn.Parameter(torch.zeros(()))
        self.body, self.head = conv_norm(40, 40), classifier(40)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        first, second = F.softmax(self.weights, 0).unbind(0)
        x = first * self.left(x) + second * self.right(x)
        return self.head(x + self.alpha * self.body(x))


@case("matmul_with_parameter", (12, 24))
class MatmulParameter(nn.Module):
    """Raw parameters stored input first, multiplied by ``@`` and ``addmm``-like sums."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(24, 64) / 5), nn.Parameter(torch.randn(64, 32) / 8)
        self.bias, self.last = nn.Parameter(torch.zeros(64)), nn.Linear(32, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(torch.matmul(torch.relu(x @ self.first + self.bias), self.second)))


@case("einsum_convolution", IMAGE)
class EinsumConvolution(nn.Module):
    """A 1x1 convolution written as ``einsum``."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.weight = conv_norm(3, 32), nn.Parameter(torch.randn(40, 32) / 6)
        self.tail = nn.Sequential(conv_norm(40, 24), classifier(24))

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(torch.einsum("bihw,oi->bohw", self.stem(x), self.weight))


@case("unused_parameter", IMAGE)
class UnusedParameter(nn.Module):
    """A parameter and a layer that the forward never reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.body = between(conv_norm(32, 40), 32, 40)
        self.spare, self.unreached = nn.Parameter(torch.randn(7, 32)), nn.Conv2d(40, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)
