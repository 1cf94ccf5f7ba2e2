"""Networks with several inputs or outputs, in-place operators, or nothing to remove."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.blocks import IMAGE, Apply, between, classifier, conv_norm
from tests.support.zoo.registry import Inputs, case


@case("inplace_operators", IMAGE)
class InplaceOperators(nn.Module):
    """Additions, products and activations that overwrite what they read."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = (
            conv_norm(3, 32),
            nn.Conv2d(32, 40, 1),
            nn.Conv2d(32, 40, 3, padding=1),
        )
        self.tail = nn.Sequential(conv_norm(40, 24), classifier(24))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        left, right = F.relu_(self.left(x)), F.leaky_relu_(self.right(x), 0.1)
        left.add_(right).mul_(0.5).sub_(0.1).clamp_(min=-1.0)
        right.sigmoid_()
        return self.tail(left.mul_(right).div_(1.5))


@case("inplace_on_slice", IMAGE)
def inplace_on_slice() -> nn.Module:
    def write(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, :8] *= 2
        x[:, 8:16] = x[:, 16:24]
        return x

    return between(Apply(write), 40)


@case("inplace_through_view", IMAGE)
def inplace_through_view() -> nn.Module:
    def write(x: Tensor) -> Tensor:
        flat = (x + 1).flatten(2)
        view = flat.view(x.size(0), 40, 16, 16)
        view.mul_(0.5)
        return view + flat.mean(2)[:, :, None, None]

    return between(Apply(write), 40)


@case("inplace_before_reuse", IMAGE)
class InplaceBeforeReuse(nn.Module):
    """An activation in place on a map whose other reader comes later."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.conv = (
            nn.Conv2d(3, 40, 3, padding=1),
            nn.BatchNorm2d(40),
            nn.Conv2d(40, 40, 1),
        )
        self.tail = nn.Sequential(conv_norm(40, 24), classifier(24))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        made = self.conv(F.relu(x, inplace=True))
        made += x
        return self.tail(made)


@case("tuple_output", IMAGE)
class TupleOutput(nn.Module):
    """Maps and logits, one of them twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = conv_norm(3, 32), conv_norm(32, 40), classifier(40)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        maps = self.second(self.first(x))
        logits = self.head(maps)
        return logits, [maps, logits.softmax(1)]


@case("dictionary_output", IMAGE)
class DictionaryOutput(nn.Module):
    """Two heads, named, one nested."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_norm(3, 32), conv_norm(32, 40))
        self.classes, self.boxes = classifier(40), nn.Sequential(conv_norm(40, 24), nn.Conv2d(24, 4, 1))

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor | dict[str, Tensor]]:
        x = self.body(x)
        return OrderedDict(classes=self.classes(x), inner={"boxes": self.boxes(x)})


class Prediction(NamedTuple):
    """What ``NamedOutput`` returns."""

    logits: Tensor
    features: Tensor


@case("named_tuple_output", IMAGE)
class NamedOutput(nn.Module):
    """Logits and the features they are made of, which therefore stay."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_norm(3, 40), conv_norm(40, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Prediction:
        features = self.body(x)
        return Prediction(self.head(features), features)


@case("two_heads", IMAGE)
class TwoHeads(nn.Module):
    """One body, two classifiers of different depth."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_norm(3, 32), conv_norm(32, 48))
        self.first, self.second = (
            classifier(48, 5),
            nn.Sequential(conv_norm(48, 24, stride=2), classifier(24, 3)),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.body(x)
        return self.first(x), self.second(x)


@case("none_and_constant_output", IMAGE)
class NoneOutput(nn.Module):
    """A tuple with a hole and a number in it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = between(conv_norm(32, 40), 32, 40)

    def forward(self, x: Tensor) -> tuple[Tensor, None, int]:
        return self.body(x), None, 7


@case("passed_through_output", IMAGE)
class PassedThrough(nn.Module):
    """The input is returned beside the result."""

    def __init__(self) -> None:
        super().__init__()
        self.body = between(conv_norm(32, 40), 32, 40)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.body(x)


@case("two_inputs", IMAGE, (1, 16, 16))
class TwoInputs(nn.Module):
    """Colour and depth, each through its own layer, joined, and the depth read again."""

    def __init__(self) -> None:
        super().__init__()
        self.colour, self.depth = conv_norm(3, 32), conv_norm(1, 16)
        self.body, self.head = conv_norm(48, 40), classifier(41)

    def forward(self, colour: Tensor, depth: Tensor) -> Tensor:
        x = self.body(torch.cat((self.colour(colour), self.depth(depth)), 1))
        return self.head(torch.cat((x, depth), 1))


def _dictionary_input() -> Inputs:
    """Return one dictionary of an image and a vector."""
    return ({"image": torch.randn(2, 3, 16, 16), "vector": torch.randn(2, 12)},)


@case("dictionary_input", example=_dictionary_input)
class DictionaryInput(nn.Module):
    """An image and a vector by name."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.vector = nn.Sequential(conv_norm(3, 32), classifier(32, 24)), nn.Linear(12, 24)
        self.last = nn.Linear(24, 5)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.last(torch.relu(self.image(inputs["image"]) + self.vector(inputs["vector"])))


def _list_input() -> Inputs:
    """Return one list of maps at two resolutions, and a vector."""
    return ([torch.randn(2, 8, 16, 16), torch.randn(2, 12, 8, 8)], torch.randn(2, 24))


@case("list_input", example=_list_input)
class ListInput(nn.Module):
    """A neck that takes the maps of some backbone."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse, self.vector = conv_norm(8, 40), conv_norm(12, 40), nn.Linear(24, 40)
        self.tail = nn.Sequential(conv_norm(40, 24), nn.Conv2d(24, 3, 1))

    def forward(self, maps: list[Tensor], vector: Tensor) -> Tensor:
        x = self.fine(maps[0]) + F.interpolate(self.coarse(maps[1]), scale_factor=2)
        return self.tail(x * self.vector(vector)[..., None, None])


@case("double_inside", IMAGE)
def double_inside() -> nn.Module:
    """A part in another precision, as mixed-precision code leaves it."""
    return between(
        nn.Sequential(conv_norm(32, 40), Apply(lambda x: (x.double() * 0.5).type_as(x) + x.detach())), 32, 40
    )


@case("alias_and_fill", IMAGE)
def alias_and_fill() -> nn.Module:
    def function(x: Tensor) -> Tensor:
        bias = torch.empty_like(x[:, :1]).fill_(0.25)
        return torch.ops.aten.alias.default(x) + bias

    return between(Apply(function), 40)


@case("nothing_to_remove", IMAGE, cuttable=False)
def nothing_to_remove() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())


@case("no_parameters", IMAGE, cuttable=False)
def no_parameters() -> nn.Module:
    return nn.Sequential(nn.AvgPool2d(2), nn.ReLU(), Apply(lambda x: x * 2 + 1))


@case("returns_its_input", IMAGE, cuttable=False)
def returns_its_input() -> nn.Module:
    return nn.Identity()


@case("bias_only", IMAGE, cuttable=False)
class BiasOnly(nn.Module):
    """A learned bias on the input."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


@case("narrower_than_a_tile", IMAGE)
def narrower_than_a_tile() -> nn.Module:
    return nn.Sequential(conv_norm(3, 5), conv_norm(5, 7), conv_norm(7, 6), classifier(6))


@case("dead_branch", IMAGE)
class DeadBranch(nn.Module):
    """A convolution whose result nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.dead, self.tail = conv_norm(3, 40), conv_norm(40, 32), conv_norm(40, 24)
        self.head = classifier(24)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        self.dead(x)
        return self.head(self.tail(x))
