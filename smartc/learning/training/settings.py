"""How learning goes: steps, batch, seed, precision, and where its state is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from smartc.core.errors import Argument, UserError

PRECISIONS = ("float32", "bfloat16")
# Where no number of steps is given: passes over the samples, and the fewest and the most steps that these make.
EPOCHS, FEWEST, MOST = 2, 200, 20_000
# Where the number of samples is not known.
STREAM_STEPS = 1000
# Samples of a step; fewer where there are few samples.
BATCH, SMALLEST_BATCH = 64, 8
# With fewer samples than this a batch norm's statistics stay as they are: those of a few are worse.
ENOUGH_FOR_STATISTICS = 1000


def few_samples(count: int | None) -> bool:
    """Return whether samples are too few for the statistics of a batch norm; None of them is a stream of many."""
    return count is not None and count < ENOUGH_FOR_STATISTICS


@dataclass(frozen=True)
class Settings:
    """How to learn, for ``smartc.compile``; everything has a default that suits the data.

    A number or a word out of range raises a UserError.

    Attributes:
        steps: Steps of the weights in all; 0 only reconstructs.  None for two passes over the samples,
            but at least 200 steps.
        batch: Samples of a step, over all processes; None for 64, or fewer where there are few.
        seed: Of the order of the samples.
        precision: ``float32``, or ``bfloat16`` for autocast.
        checkpoint: A file to keep the state of the training in, every 20 seconds; None for none.
        resume: Whether to go on from that file, which must be there.
    """

    steps: int | None = None
    batch: int | None = None
    seed: int = 0
    precision: str = "float32"
    checkpoint: Path | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        """Check what was given.

        Raises:
            UserError: A number or a word is out of range.
        """
        if self.steps is not None and self.steps < 0:
            raise UserError("not a number of steps", where=Argument("steps", self.steps), fix="Give 0 or more")
        if self.batch is not None and self.batch < 1:
            raise UserError("not a batch size", where=Argument("batch", self.batch), fix="Give 1 or more")
        if self.precision not in PRECISIONS:
            fix = f"Choose one of {', '.join(PRECISIONS)}"
            raise UserError("not known", where=Argument("precision", self.precision), fix=fix)

    def batch_for(self, samples: int | None) -> int:
        """Return the samples of a step.

        Args:
            samples: How many there are to learn from; None where that is not known.
        """
        if self.batch is not None:
            return self.batch
        return BATCH if samples is None else max(min(BATCH, samples // 8), min(SMALLEST_BATCH, samples))

    def steps_for(self, samples: int | None) -> int:
        """Return the number of steps.

        Args:
            samples: How many there are to learn from; None where that is not known.
        """
        if self.steps is not None:
            return self.steps
        if samples is None:
            return STREAM_STEPS
        return min(max(EPOCHS * samples // self.batch_for(samples), FEWEST), MOST)
