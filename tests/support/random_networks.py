"""Random convolutional networks, each a function of a short recipe, so that a failure can be replayed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.support.random_blocks import BLOCKS, width
from tests.support.zoo.disturb import disturb

JOINS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add_earlier": torch.add,
    "multiply_earlier": torch.mul,
    "subtract_broadcast": lambda a, b: a - b.mean((2, 3), keepdim=True),
    "concat_earlier": lambda a, b: torch.cat((a, b), 1),
}
STEPS = (*BLOCKS, *JOINS)
TAILS = ("pool_linear", "flatten_linear", "maps", "maps_and_linear")
_INPUT = (2, 3, 12, 12)
_WIDEST = 64


class RandomNetwork(nn.Module):
    """A list of steps, each reading one or two of the maps before it, and a tail."""

    def __init__(self, steps: tuple[str, ...], tail: str, draw: random.Random) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        self.sources: list[tuple[int, ...]] = []
        maps = [torch.zeros(_INPUT)]
        for name in ("convolution", *steps):
            self._append(name, maps, random.Random(draw.random()))
        self.tail, self.linear = tail, _linear(tail, maps[-1])
        self.last = nn.Conv2d(maps[-1].shape[1], 3, 1) if tail.startswith("maps") else None

    def _append(self, name: str, maps: list[Tensor], draw: random.Random) -> None:
        """Add one step, and the map that it makes of zeros, whose shape the next step needs."""
        channels, size = maps[-1].shape[1], maps[-1].shape[-1]
        sources: tuple[int, ...] = (len(maps) - 1,)
        if name in BLOCKS:
            layer = BLOCKS[name](draw, channels, size)
        else:
            sources, layer = _join(name, maps, draw)
        if layer(*(maps[source] for source in sources)).shape[1] > _WIDEST:
            sources, layer = sources[:1], nn.Conv2d(maps[sources[0]].shape[1], width(draw), 1)
        self.layers.append(layer.eval())
        self.sources.append(sources)
        maps.append(layer(*(maps[source] for source in sources)))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        maps = [x]
        for layer, sources in zip(self.layers, self.sources, strict=True):
            maps.append(layer(*(maps[source] for source in sources)))
        outputs = [] if self.last is None else [self.last(maps[-1])]
        if self.linear is not None:
            flat = maps[-1].flatten(1) if self.tail == "flatten_linear" else maps[-1].mean((2, 3))
            outputs.append(self.linear(flat))
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


@dataclass(frozen=True)
class Recipe:
    """What a random network is made of.

    Args:
        steps: Names out of ``STEPS``.
        tail: One of ``TAILS``.
        seed: Decides widths, kernels, activations, which maps meet, and all numbers.
    """

    steps: tuple[str, ...]
    tail: str
    seed: int

    def build(self) -> tuple[nn.Module, tuple[Tensor]]:
        """Return the network in float64 and evaluation mode, and a batch of two."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(self.seed)
            network = RandomNetwork(self.steps, self.tail, random.Random(self.seed))
            disturb(network, self.seed)
            inputs = torch.randn(_INPUT, dtype=torch.float64) + torch.randn(2, 3, 1, 1)
        return network.double().eval(), (inputs,)


def random_recipe(seed: int, steps: int = 6) -> Recipe:
    """Return a recipe that is a function of its seed."""
    draw = random.Random(seed)
    return Recipe(tuple(draw.choices(STEPS, k=steps)), draw.choice(TAILS), seed)


def recipes(most_steps: int = 6) -> st.SearchStrategy[Recipe]:
    """Return a strategy of recipes, which shrinks to fewer steps and those first in ``STEPS``."""
    steps = st.lists(st.sampled_from(STEPS), min_size=1, max_size=most_steps).map(tuple)
    return st.builds(Recipe, steps, st.sampled_from(TAILS), st.integers(0, 2**16))


def _join(name: str, maps: list[Tensor], draw: random.Random) -> tuple[tuple[int, ...], nn.Module]:
    """Return a join of the last map with an earlier one that it fits, or with itself."""
    last = len(maps) - 1
    same_width = [i for i in range(1, last) if maps[i].shape[1] == maps[last].shape[1]]
    same_size = [i for i in range(last) if maps[i].shape[2:] == maps[last].shape[2:]]
    fits = {
        "concat_earlier": same_size,
        "subtract_broadcast": same_width,
    }.get(name, [i for i in same_width if i in same_size])
    if not fits and name != "subtract_broadcast" and same_size:
        earlier = draw.choice(same_size)
        return (last, earlier), _Projected(JOINS[name], maps[earlier].shape[1], maps[last].shape[1])
    return (last, draw.choice(fits or [last])), _Joined(JOINS[name])


class _Joined(nn.Module):
    """A function of two maps."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, earlier: Tensor) -> Tensor:
        return self.function(x, earlier)


class _Projected(_Joined):
    """The same, with the earlier map brought to the same width."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], cin: int, cout: int) -> None:
        super().__init__(function)
        self.job = nn.Conv2d(cin, cout, 1)

    def forward(self, x: Tensor, earlier: Tensor) -> Tensor:
        return self.function(x, self.job(earlier))


def _linear(tail: str, last: Tensor) -> nn.Linear | None:
    """Return the linear layer of a tail that has one."""
    if tail == "maps":
        return None
    return nn.Linear(last[0].numel() if tail == "flatten_linear" else last.shape[1], 5)
