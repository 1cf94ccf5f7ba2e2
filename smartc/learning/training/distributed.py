"""The processes that share a training under torchrun; one alone elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from smartc.data.batch import Batch


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: Which of them it is.
        world: How many there are.
    """

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Return whether this is the process that speaks and writes."""
        return self.rank == 0

    def share(self, batch: Batch) -> Batch:
        """Return this process's part of a batch."""
        return batch if self.world == 1 else batch.share(self.rank, self.world)

    def wrapped(self, model: nn.Module) -> nn.Module:
        """Return a module whose gradients are the mean over all processes."""
        # Parameters of hard masks, and layers that a mask cut off, get no gradient.
        return DistributedDataParallel(model, find_unused_parameters=True)


def in_torchrun() -> bool:
    """Return whether torchrun started this process along with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first() -> bool:
    """Return whether this process is alone, or the one of several that speaks and writes."""
    return not in_torchrun() or os.environ.get("RANK", "0") == "0"


@contextmanager
def joined() -> Iterator[Processes]:
    """Join the processes that torchrun started, for as long as the block lasts."""
    if not in_torchrun():
        yield Processes()
        return
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
