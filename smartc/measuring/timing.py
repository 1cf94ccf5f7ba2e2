"""Times of code that is run again and again, in turns with what it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Standard errors of a median in its spread, and one standard error of the median of normal times, in units of
# the range that holds the middle half of them over the root of their number.
ERRORS, ERROR_OF_MEDIAN = 2.0, 0.93
# A comparison takes about so many seconds, in no fewer and no more than so many rounds.
SECONDS, FEWEST, MOST = 6.0, 7, 41


@dataclass(frozen=True)
class Timing:
    """What something took.

    Attributes:
        ms: The median, in milliseconds.
        spread: Two standard errors of that median, in milliseconds.
    """

    ms: float
    spread: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timing:
        """Return the median and the spread of some times in seconds."""
        low, middle, high = np.percentile(np.asarray(seconds) * 1e3, (25, 50, 75))
        return cls(float(middle), ERRORS * ERROR_OF_MEDIAN * float(high - low) / len(seconds) ** 0.5)

    def beats(self, other: Timing) -> bool:
        """Return whether this is less than another by more than both spreads."""
        return self.ms + self.spread + other.spread < other.ms


def rounds_for(seconds: float) -> int:
    """Return how often to run what takes so many seconds."""
    return int(np.clip(SECONDS / max(seconds, 1e-9), FEWEST, MOST))
