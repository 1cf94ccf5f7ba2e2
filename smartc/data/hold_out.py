"""Samples that are kept from learning, to compare on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from smartc.data.arrays import InMemory
from smartc.data.batch import Batch, Samples, shuffled_places
from smartc.data.image_folder import ImageFolder

# With fewer, what is held out would be missed in learning.
ENOUGH = 2000
# One sample in so many is held out, up to so many in all.
ONE_IN, MOST = 10, 256


@dataclass(frozen=True, eq=False)
class Part:
    """Some of the samples of a collection.

    Attributes:
        whole: The collection.
        places: Which of its samples, in order.
    """

    whole: InMemory | ImageFolder
    places: torch.Tensor

    @property
    def source(self) -> str:
        """Return what to call them in a report."""
        return self.whole.source

    @property
    def count(self) -> int:
        """Return the number of samples."""
        return len(self.places)

    @property
    def labelled(self) -> bool:
        """Return whether there are labels."""
        return self.whole.labelled

    def shuffled(self, size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Yield full batches without end, from a new permutation for every epoch."""
        layout = self.whole.layout
        size = layout.size(size, self.count)
        for chosen in shuffled_places(self.count, size, seed, start):
            yield layout.batch(self.whole.at(self.places[chosen]), max(0, size - self.count))

    def in_order(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        """Yield the samples once, at most so many."""
        layout = self.whole.layout
        for chosen in self.places[:limit].split(layout.size(size, self.count)):
            yield layout.filled(self.whole.at(chosen))


def hold_out(samples: Samples) -> tuple[Samples, Samples | None]:
    """Return what to learn from, and what is held out of it, spread evenly; None where there is not enough.

    Of samples that come as a stream none are held out: they cannot be told apart from one epoch to the next.
    """
    if not isinstance(samples, (InMemory, ImageFolder)) or samples.count < ENOUGH:
        return samples, None
    held = min(MOST, samples.count // ONE_IN)
    out = torch.zeros(samples.count, dtype=torch.bool)
    out[torch.linspace(0, samples.count - 1, held).long()] = True
    return Part(samples, (~out).nonzero()[:, 0]), Part(samples, out.nonzero()[:, 0])
