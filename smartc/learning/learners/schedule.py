"""How a search for masks goes: one row of numbers for each granularity, and what few samples change of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from smartc.masks.granularity import BlockGranularity, ChannelGranularity, Granularity, PatternGranularity

# In a search of fewer steps masks move at each.
SHORTEST_SEARCH = 30


@dataclass(frozen=True)
class Schedule:
    """The numbers of a search.  Scores are in standard deviations of the first scores.

    Attributes:
        share: Part of all steps that the search takes, 0 to 1.
        hottest: Temperature of the soft masks at the start, in units of score: as many units compete.
        coldest: The same at the end, where next to none do.
        tightening: Part of the search over which the budget tightens, 0 to 1, so that the network can follow.
        reach: How far a gradient of the mean size can carry a score over the whole search.
        slowest: How far a step moves such a score at least.
        fastest: How far a step moves such a score at most.
        moves: How often masks move at most, unless a mask would serve more than ``longest_hold`` steps: the steps
            that a mask stays for cost little more than steps without masks.
        shortest_hold: Steps that a mask serves at least.
        longest_hold: Steps that a mask serves at most.
        weight_rate: How far a step moves a weight, relative to the root mean square of its tensor.
        counts_by_first_importance: Whether scores tell only which units of a layer stay, and the first importance
            how many: what remains of a layer takes over, which a short search does not see.
        refits: Whether the weights that are left are refitted after the search, which is too short for them to follow.
        ridge: Cost of a change of a weight in that refit, relative to the mean variance of its inputs; many samples
            need less to hold weights back than the few that ``reconstruct`` takes by default.
    """

    share: float = 0.35
    hottest: float = 1.0
    coldest: float = 1e-3
    tightening: float = 0.5
    reach: float = 10.0
    slowest: float = 1e-2
    fastest: float = 5e-2
    moves: int = 100
    shortest_hold: int = 2
    longest_hold: int = 8
    weight_rate: float = 1e-2
    counts_by_first_importance: bool = False
    refits: bool = False
    ridge: float = 1e-2

    def without_batch_norm(self) -> Schedule:
        """Return the row for a network without batch norms that learn.

        They would take up what masks and steps do to the size of activations: many masks between 0 and 1 shrink all.
        """
        return replace(self, hottest=0.1, tightening=0.7, fastest=1e-2, weight_rate=2e-4)

    def for_few_samples(self) -> Schedule:
        """Return the row for a few samples, which soon tell no more than chance, and on which masks move alone."""
        return replace(self, share=0.05, longest_hold=1)

    def score_rate(self, steps: int) -> float:
        """Return the length of a step of a score whose gradient is of the mean size, in a search of some steps."""
        return min(max(self.reach / max(steps, 1), self.slowest), self.fastest)

    def hold(self, steps: int) -> int:
        """Return the number of steps that a mask serves, in a search of some steps."""
        if steps < SHORTEST_SEARCH:
            return 1
        return min(max(steps // self.moves, self.shortest_hold), self.longest_hold)


SCHEDULES: dict[type[Granularity], Schedule] = {
    BlockGranularity: Schedule(),
    # They are few: a search that takes more misses the steps that would train, and its scores stay close together.
    ChannelGranularity: Schedule(
        share=0.01,
        coldest=1e-4,
        # What a gradient tells of channels, and of single weights, weighs less than their size.
        reach=0.1,
        slowest=0.0,
        # Their masks cost next to nothing.
        longest_hold=1,
        counts_by_first_importance=True,
        refits=True,
    ),
    # There are as many masks as weights.
    PatternGranularity: Schedule(reach=0.1, slowest=0.0, moves=40, shortest_hold=3),
}


def schedule_for(granularity: Granularity, no_batch_norm: bool, few_samples: bool) -> Schedule:
    """Return the schedule of a search.

    Args:
        granularity: What a unit is.
        no_batch_norm: Whether no batch norm learns.
        few_samples: Whether there are few samples to learn from.
    """
    schedule = SCHEDULES[type(granularity)]
    schedule = schedule.without_batch_norm() if no_batch_norm else schedule
    return schedule.for_few_samples() if few_samples else schedule
