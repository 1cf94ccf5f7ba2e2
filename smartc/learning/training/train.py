"""Train a masked model: the loop that smartc runs where the user brings data and no loop of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from smartc.core.errors import UserError
from smartc.data.batch import Batch, Samples
from smartc.learning.learners.schedule import Schedule
from smartc.learning.objectives.objective import Objective
from smartc.learning.training.checkpoint import Checkpoint
from smartc.learning.training.distributed import Processes
from smartc.learning.training.mask_search import MaskSearch, SearchState
from smartc.learning.training.weight_optimizer import set_rate, weight_optimizer


@dataclass(frozen=True)
class Training:
    """How long and on what to train.

    Attributes:
        steps: Steps in all, the search's among them.
        batch: Samples of a step, over all processes.
        seed: Decides the order of the samples and what dropout draws.
        precision: ``float32``, or ``bfloat16`` for autocast.
        rate: How far a step moves a weight, relative to the size of its tensor.
        masks_first: Whether the weights stay as they are until the masks are hard: a few samples tell
            what can be spared, but weights that follow soft masks fit the samples.
    """

    steps: int
    batch: int
    seed: int = 0
    precision: str = "float32"
    rate: float = Schedule.weight_rate
    masks_first: bool = False

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which the model runs."""
        dtype = getattr(torch, self.precision)
        return nullcontext() if dtype == torch.float32 else torch.autocast(_device_type(), dtype)


@dataclass(frozen=True, eq=False)
class Run:
    """One training of a search.

    Attributes:
        search: What is trained.
        samples: What it is trained on.
        objective: What is minimised.
        training: For how long.
        processes: The processes that share the work.
        checkpoint: Where the state is kept, if anywhere.
        watch: Told of every step.
    """

    search: MaskSearch
    samples: Samples
    objective: Objective
    training: Training
    processes: Processes
    checkpoint: Checkpoint | None
    watch: Callable[[SearchState], None]

    def train(self) -> None:
        """Train from where the checkpoint is, or from the start, to the end.

        Raises:
            UserError: The loss is no number, or the data or the user's loss fail.
        """
        search, training = self.search, self.training
        learner = {f"smartc_masks.{name}" for name, _ in search.learner.named_parameters()}
        optimizer = weight_optimizer(search.model, learner | search.original.untouched.keys(), training.rate)
        if self.checkpoint is not None:
            self.checkpoint.restore(search, optimizer)
        search.harden_if_due()
        several = self.processes.world > 1
        module = self.objective.prepared(search.model_of_several() if several else search.model)
        module = self.processes.wrapped(module) if several else module
        batches = self.samples.shuffled(training.batch, training.seed, start=search.done)
        with self._own_randomness():
            while search.done < training.steps:
                waited = search.search_steps if training.masks_first else 0
                set_rate(optimizer, search.done - waited, training.steps - waited)
                loss = self._step(module, self.objective.varied(next(batches), search.done), optimizer)
                self.watch(search.step(loss))
                if self.checkpoint is not None:
                    self.checkpoint.keep(search, optimizer)

    def _step(self, module: nn.Module, batch: Batch, optimizer: torch.optim.Optimizer) -> float:
        """Move the weights once and return the loss."""
        torch.manual_seed(self.training.seed + self.search.done)
        with self.training.autocast():
            loss = self.objective.loss(module, self.processes.share(batch))
        if not bool(torch.isfinite(loss)):
            fact = f"the loss is {float(loss.detach())} at step {self.search.done}"
            raise UserError(fact, where=self.objective.name, fix="Check the data, and the loss if it is your own")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if not (self.training.masks_first and self.search.searching):
            optimizer.step()
        return float(loss.detach())

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """Leave the user's random state as it was."""
        with torch.random.fork_rng(devices=[]):
            yield


def _device_type() -> str:
    """Return the type of the device that training runs on."""
    return "cuda" if torch.cuda.is_available() else "cpu"
