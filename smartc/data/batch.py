"""Batches of samples, what yields them, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count as counting
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from smartc.core.errors import UserError


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples as a model takes them.

    Attributes:
        inputs: A value per input of the graph, flattened, floats in the type of the input; axis 0 of
            every tensor is the sample.
        labels: What the user labelled the samples with, axis 0 the sample; None where there are none.
        repeated: Samples at the end that only repeat others, to fill a batch of fixed size.
    """

    inputs: tuple[Any, ...]
    labels: torch.Tensor | None = None
    repeated: int = 0

    def __len__(self) -> int:
        """Return the number of samples, repeated ones included."""
        return next(len(value) for value in self.inputs if isinstance(value, torch.Tensor))

    def to(self, device: torch.device | str) -> Batch:
        """Return the same batch on a device."""
        inputs = tuple(value.to(device) if isinstance(value, torch.Tensor) else value for value in self.inputs)
        return Batch(inputs, None if self.labels is None else self.labels.to(device), self.repeated)

    def share(self, rank: int, world: int) -> Batch:
        """Return one process's part: the parts of all ranks are the batch in order.

        Raises:
            UserError: The batch cannot be cut into as many equal parts.
        """
        if len(self) % world:
            fact = f"a batch of {len(self)} samples is no multiple of {world} processes"
            raise UserError(fact, where="data", fix=f"Give a batch size that is, and at least {world} samples")
        part = len(self) // world
        place = slice(rank * part, (rank + 1) * part)
        inputs = tuple(value[place] if isinstance(value, torch.Tensor) else value for value in self.inputs)
        repeated = min(part, max(0, self.repeated - (world - 1 - rank) * part))
        return Batch(inputs, None if self.labels is None else self.labels[place], repeated)


@runtime_checkable
class Samples(Protocol):
    """Inputs to calibrate on and to learn from, with or without labels."""

    @property
    def source(self) -> str:
        """What to call them in a report."""

    @property
    def count(self) -> int | None:
        """The number of samples; None where only a whole pass would tell."""

    @property
    def labelled(self) -> bool:
        """Whether batches have labels."""

    def shuffled(self, size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Yield full batches without end, in an order that depends on seed and epoch only.

        Args:
            size: Samples in a batch; where the model fixes it, that, and where there are fewer, all.
            seed: What the order comes from.
            start: Begin with the batch that an uninterrupted run has at this step.
        """
        ...

    def in_order(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        """Yield the samples once, at most ``limit``; the last batch may be smaller unless the model fixes it."""
        ...


def epoch_seed(seed: int, epoch: int) -> int:
    """Return a seed of its own for an epoch, 0 to 2**63 - 1."""
    sequence = np.random.SeedSequence((seed % 2**64, epoch))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def shuffled_places(count: int, size: int, seed: int, start: int) -> Iterator[torch.Tensor]:
    """Yield the places of each batch's samples without end, a new permutation for every epoch.

    Args:
        count: How many samples there are; where fewer than the batch takes, they are repeated.
        size: Samples in a batch.
        seed: What the permutations come from.
        start: The first step to yield; those before it cost nothing.
    """
    steps = max(1, count // size)
    for epoch in counting(start // steps):
        generator = torch.Generator().manual_seed(epoch_seed(seed, epoch))
        order = torch.randperm(count, generator=generator)
        for step in range(start % steps if epoch == start // steps else 0, steps):
            yield order[torch.arange(step * size, (step + 1) * size) % count]


def filled_places(count: int, size: int) -> torch.Tensor:
    """Return the places of a batch of which only the first few samples exist; the last of them is repeated."""
    return torch.arange(size).clamp(max=count - 1)
