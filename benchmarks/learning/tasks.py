"""What the benchmark runs: every combination of the settings that can be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from smartc.core.errors import UserError

LEARNERS = ("smart", "pdp", "sp-lamp", "magnitude", "taylor", "ac-dc")
# Torch-Pruning's, for channels; the others rank all channels of the network together.
OUTSIDE = ("tp-l1", "tp-taylor", "tp-l1-uniform", "tp-taylor-uniform")
# What a network of Torch-Pruning's has in common with the one of smart beside it.
MATCHES = ("macs", "latency")


@dataclass(frozen=True)
class Protocol:
    """What all learners have in common.

    Attributes:
        data: Name of the data set.
        network: Name of the network.
        epochs: Of search and fine-tuning together.
        dense_epochs: Of the training before.
        target: The device that is compiled for.
        bfloat16: Whether training is done in bfloat16.
        batch: Images in a step.
        rate: The highest learning rate of search and fine-tuning.
        dense_rate: The highest learning rate of the training before.
        images: How many images are used to train and to test, 0 for all.
    """

    data: str
    network: str
    epochs: int
    dense_epochs: int
    target: str = "npu-8x8"
    bfloat16: bool = False
    batch: int = 128
    rate: float = 0.05
    dense_rate: float = 0.1
    images: int = 0


@dataclass(frozen=True)
class Task:
    """One line of the results.

    Attributes:
        match: ``sparsity``, or what is to be as in the network that smart made: ``macs`` or ``latency``.
    """

    protocol: Protocol
    granularity: str
    sparsity: float
    learner: str
    match: str
    seed: int

    @property
    def settings(self) -> dict[str, Any]:
        """Return all settings, flat."""
        flat = asdict(self)
        return {**flat.pop("protocol"), **flat}

    @property
    def reference(self) -> Task:
        """Return the task whose result this one is matched to."""
        return replace(self, learner="smart", match="sparsity")

    def __str__(self) -> str:
        """Return the task in a few words."""
        place = f"{self.protocol.data} {self.protocol.network} seed {self.seed}"
        match = "" if self.match == "sparsity" else f" at equal {self.match}"
        return f"{place}: {self.granularity} {self.sparsity:g} {self.learner}{match}"


def tasks(
    protocols: Sequence[Protocol],
    granularities: Sequence[str],
    sparsities: Sequence[float],
    learners: Sequence[str],
    seeds: Sequence[int],
) -> Iterator[Task]:
    """Yield every combination that can be, what others are matched to first.

    A pattern as 2:4 has one sparsity, its own; Torch-Pruning's learners are for channels.

    Raises:
        UserError: A learner is not known.
    """
    for learner in learners:
        if learner not in LEARNERS + OUTSIDE:
            fix = f"Choose from {', '.join(LEARNERS + OUTSIDE)}"
            raise UserError("not known", where=f"--learner {learner}", fix=fix)
    ordered = [name for name in LEARNERS + OUTSIDE if name in learners]
    for protocol, seed, granularity in product(protocols, seeds, granularities):
        for sparsity, learner in product(_sparsities(granularity, sparsities), ordered):
            if learner in LEARNERS:
                yield Task(protocol, granularity, sparsity, learner, "sparsity", seed)
            elif granularity == "channel":
                yield from (Task(protocol, granularity, sparsity, learner, match, seed) for match in MATCHES)


def _sparsities(granularity: str, asked: Sequence[float]) -> Sequence[float]:
    """Return the sparsities that a granularity can have."""
    pattern = re.fullmatch(r"(\d+):(\d+)", granularity)
    return (1 - int(pattern[1]) / int(pattern[2]),) if pattern else asked
