"""The register of the zoo: a name, a network with random weights, and inputs to run it on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from tests.support.zoo.disturb import disturb

BATCH = 2
Inputs = tuple[Any, ...]
Factory = TypeVar("Factory", bound=Callable[[], nn.Module])


@dataclass(frozen=True)
class Case:
    """One network of the zoo.

    Args:
        name: Unique name.
        family: Name of the file that defines it.
        factory: Makes the module, with weights from torch's global generator.
        example: Makes the inputs, a batch of ``BATCH`` along axis 0, from the same generator.
        cuttable: An exact cut exists, so that a compiler that removes nothing has missed it.
    """

    name: str
    family: str
    factory: Callable[[], nn.Module]
    example: Callable[[], Inputs]
    cuttable: bool

    def build(self, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Inputs]:
        """Return the module in evaluation mode with uneven statistics, and example inputs."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = self.factory()
            disturb(module, seed)
            inputs = self.example()
        cast: Inputs = tree_map(lambda leaf: _cast(leaf, dtype), inputs)
        return module.eval().to(dtype), cast


CASES: dict[str, Case] = {}


def case(
    name: str, *shapes: tuple[int, ...], example: Callable[[], Inputs] | None = None, cuttable: bool = True
) -> Callable[[Factory], Factory]:
    """Register a module class or factory.

    Args:
        name: Unique name of the case.
        shapes: Shape of each input without its batch axis; filled with normal numbers.
        example: Makes the inputs where ``shapes`` cannot say them.
        cuttable: See ``Case``.

    Raises:
        ValueError: The name is taken.
    """

    def register(factory: Factory) -> Factory:
        if name in CASES:
            raise ValueError(f"the zoo already has a case {name!r}")
        family = factory.__module__.rsplit(".", 1)[-1]
        CASES[name] = Case(name, family, factory, example or _normal(shapes), cuttable)
        return factory

    return register


def build(name: str, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Inputs]:
    """Return the module of a case in evaluation mode, and its example inputs."""
    return CASES[name].build(seed, dtype)


def _normal(shapes: tuple[tuple[int, ...], ...]) -> Callable[[], Inputs]:
    """Return a maker of one normal tensor per shape."""
    return lambda: tuple(_sample(shape) for shape in shapes)


def _sample(shape: tuple[int, ...]) -> Tensor:
    """Return normal numbers about an offset per channel, which averages over space cannot wash out."""
    offset = torch.randn(BATCH, *shape[:1], *(1 for _ in shape[1:]))
    return torch.randn(BATCH, *shape) + offset


def _cast(leaf: Any, dtype: torch.dtype) -> Any:
    """Return a floating tensor in another type, anything else as it is."""
    return leaf.to(dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf
