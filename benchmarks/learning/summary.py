"""Mean and spread over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.learning.results import Outcome, Result
from benchmarks.learning.tasks import LEARNERS, MATCHES, OUTSIDE, Protocol

Row = tuple[str, float]
Column = tuple[str, str]

COLUMNS: tuple[Column, ...] = (
    *((learner, "sparsity") for learner in LEARNERS),
    *((learner, match) for match in MATCHES for learner in OUTSIDE),
)
NAMES = {
    "tp-l1": "Torch-Pruning L1",
    "tp-taylor": "Torch-Pruning Taylor",
    "tp-l1-uniform": "Torch-Pruning L1 uniform",
    "tp-taylor-uniform": "Torch-Pruning Taylor uniform",
}


@dataclass(frozen=True)
class Spread:
    """A figure over several seeds."""

    mean: float
    deviation: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the mean and the sample standard deviation, 0 of a single value."""
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0, len(values))


@dataclass(frozen=True, eq=False)
class Section:
    """All results of one protocol, by row (granularity, sparsity) and column (learner, match).

    Attributes:
        reached: The accuracies of each seed's dense networks: several where machines round differently.
    """

    protocol: Protocol
    outcomes: dict[tuple[Row, Column], tuple[Outcome, ...]]
    reached: dict[int, set[float]]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Return the seeds."""
        return tuple(self.reached)

    @property
    def dense(self) -> Spread:
        """Return the accuracy of the dense networks."""
        return Spread.of([accuracy for own in self.reached.values() for accuracy in sorted(own)])

    @property
    def apart(self) -> float:
        """Return how far the dense networks of a seed are apart at most."""
        return max(max(own) - min(own) for own in self.reached.values())

    @property
    def rows(self) -> list[Row]:
        """Return the rows, blocks before channels before patterns."""
        return sorted({row for row, _ in self.outcomes}, key=lambda row: (_kind(row[0]), row))

    def columns(self, row: Row | None = None) -> list[Column]:
        """Return the columns that there are, or that a row has."""
        there = {column for place, column in self.outcomes if row in (None, place)}
        return [column for column in COLUMNS if column in there]

    def spread(self, row: Row, column: Column, figure: Callable[[Outcome], float]) -> Spread | None:
        """Return a figure over the seeds of a cell, or None where there is no result."""
        outcomes = self.outcomes.get((row, column))
        return Spread.of([figure(outcome) for outcome in outcomes]) if outcomes else None


def _kind(granularity: str) -> int:
    """Return the place of a kind of granularity."""
    return 1 if granularity == "channel" else 2 if ":" in granularity else 0


def sections(results: Iterable[Result]) -> list[Section]:
    """Return the results by protocol; of two lines of one task the last counts."""
    latest = {result.task: result.outcome for result in results}
    found = []
    for protocol in dict.fromkeys(task.protocol for task in latest):
        cells: dict[tuple[Row, Column], tuple[Outcome, ...]] = {}
        reached: dict[int, set[float]] = {}
        for task, outcome in sorted(latest.items(), key=lambda item: item[0].seed):
            if task.protocol == protocol:
                place = (task.granularity, task.sparsity), (task.learner, task.match)
                cells[place] = (*cells.get(place, ()), outcome)
                reached.setdefault(task.seed, set()).add(outcome.dense_accuracy)
        found.append(Section(protocol, cells, reached))
    return found


def column_name(column: Column) -> str:
    """Return a column as a reader calls it."""
    learner, match = column
    words = {"sparsity": "", "macs": " at equal MACs", "latency": " at equal time"}
    return NAMES.get(learner, learner) + words[match]


def granularity_name(granularity: str) -> str:
    """Return a granularity as a reader calls it."""
    return {"channel": "channels"}.get(granularity, granularity + ("" if ":" in granularity else " blocks"))
