"""A compile job: a captured model, its channels and layers, a target and a budget."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from smartc.analysis.find_layers import Layers
from smartc.decision.dump import NO_DUMP, Dump
from smartc.ir.traced_model import TracedModel
from smartc.masks.granularity import Granularity
from smartc.selection.budget import Budget
from smartc.targets.target import Target

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Clock:
    """Processor seconds by stage, and the dump that hears of the passes of each.

    Attributes:
        dump: Where the graph is written after each stage, if anywhere.
        seconds: By stage.
    """

    dump: Dump = NO_DUMP
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the processor time of a block to a stage."""
        start = time.process_time()
        with self.dump.listening():
            yield
        spent = time.process_time() - start
        self.seconds[stage] = self.seconds.get(stage, 0.0) + spent
        log.info("%s: %.1f CPU seconds", stage, spent)


@dataclass(frozen=True, eq=False)
class CompileJob:
    """What is to be compiled, and for what.

    Attributes:
        captured: The model as it was captured.
        original: The same, with constants in place of what parameters alone compute where that frees channels.
        layers: Its layers, with its channel groups.
        target: The device.
        budget: What may remain of it on the device.
        granularity: What a mask removes at a time.
        learner: Where the masks come from.
        clock: How long each stage took.
        uniform: Whether repeated blocks keep one width.
        approximate: Whether norms may lose channels that they take statistics over.
    """

    captured: TracedModel
    original: TracedModel
    layers: Layers
    target: Target
    budget: Budget
    granularity: Granularity
    learner: str
    clock: Clock
    uniform: bool = False
    approximate: bool = False

    @property
    def dump(self) -> Dump:
        """Return the dump of the stages."""
        return self.clock.dump
