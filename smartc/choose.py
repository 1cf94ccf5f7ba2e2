"""Choose how many channels each group keeps: whole tiles, within a sparsity or a latency budget.

Both searches walk one sequence of candidates that depends on the model, the target and the scores
but not on the budget, and take the first that meets it.  A tighter budget therefore never gives a
slower model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from smartc.errors import UserError
from smartc.knapsack import multiple_choice_knapsack
from smartc.passes.channel_groups import ChannelGroups
from smartc.passes.find_layers import Layers
from smartc.passes.labels import IntArray
from smartc.targets.latency import Latency, price
from smartc.targets.target import Target

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

# How finely the share of removed channels is searched.
SPARSITY_STEPS = 200
# Resolution of costs in the knapsack: rounding then moves a layer by at most 0.05 % of the total,
# and every candidate is priced again anyway.
TICKS = 2000
# Each round of the latency search takes off this share of the time, in this many steps.
ROUND, STEPS = 0.04, 4
# Cycles are sums of a few float64 terms; differences below this share are rounding.
SAME_TIME = 1e-9


@dataclass(frozen=True)
class Budget:
    """What was asked for: a share of channels to remove, or a time (relative or in ms)."""

    kind: str
    amount: float
    asked: str


@dataclass(frozen=True, eq=False)
class Choice:
    """How many units each group keeps, and a sentence on what kept it from being less or more."""

    kept: IntArray
    reasons: tuple[str, ...]
    note: str


@dataclass(frozen=True, eq=False)
class Search:
    """Everything that a search for kept counts needs.

    Attributes:
        layers: The model's layers with its channel groups.
        target: The device.
        scores: Importance per unit.
    """

    layers: Layers
    target: Target
    scores: FloatArray

    @property
    def groups(self) -> ChannelGroups:
        """Return the channel groups."""
        return self.layers.groups

    @cached_property
    def full(self) -> IntArray:
        """Return the number of units of each group."""
        return np.array([len(group) for group in self.groups.groups], dtype=np.int64)

    @cached_property
    def weights(self) -> IntArray:
        """Return how many owned channels one unit of each group stands for."""
        return np.array([group.weight for group in self.groups.groups], dtype=np.int64)

    @cached_property
    def options(self) -> list[IntArray]:
        """Return the counts that each group may keep, ascending; the last is all."""
        return [_options(len(group), step) for group, step in zip(self.groups.groups, self.steps, strict=True)]

    @cached_property
    def steps(self) -> list[int]:
        """Return for each group the units that fill whole tiles; 1 where others share its tiles."""
        return _steps(self.groups, self.target)

    @cached_property
    def values(self) -> list[FloatArray]:
        """Return for each option of each group the score that it keeps."""
        sums = [np.cumsum(np.sort(self.scores[group.units])[::-1]) for group in self.groups.groups]
        return [total[counts - 1] for total, counts in zip(sums, self.options, strict=True)]

    def latency(self, kept: IntArray) -> Latency:
        """Price all layers for kept counts of shape (groups,) or (candidates, groups)."""
        return price(self.target, self.layers.workload(self.target, self.layers.sizes(kept)))

    def cycles(self, kept: IntArray) -> FloatArray:
        """Return the cycles of the whole network, a number per candidate."""
        total: FloatArray = self.latency(kept).total.sum(axis=-1)
        return total

    def marginal_cycles(self, kept: IntArray) -> list[FloatArray]:
        """Return for each option of each group the cycles of the layers it touches, others as they are."""
        reads, writes = self.layers.sizes(kept)
        rows, into, out, lengths = [], [], [], []
        for (touched, adds_in, adds_out), counts, now in zip(self.layers.touched, self.options, kept, strict=True):
            more = (counts - now)[:, None]
            rows.append(np.tile(touched, len(counts)))
            into.append((reads[touched] + more * adds_in).reshape(-1))
            out.append((writes[touched] + more * adds_out).reshape(-1))
            lengths += [len(touched)] * len(counts)
        flat = tuple(np.concatenate(part) for part in (into, out))
        work = self.layers.workload(self.target, flat, np.concatenate(rows))  # type: ignore[arg-type]
        owner = np.repeat(np.arange(len(lengths)), lengths)
        sums = np.bincount(owner, price(self.target, work).total, minlength=len(lengths))
        return np.split(sums, np.cumsum([len(counts) for counts in self.options])[:-1])

    def kept_units(self, kept: IntArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return which units stay when each group keeps its best ones."""
        keep = np.zeros(self.groups.count, dtype=bool)
        for group, count in zip(self.groups.groups, kept, strict=True):
            best = np.argsort(-self.scores[group.units], kind="stable")[:count]
            keep[group.units[best]] = True
        return keep


def choose(search: Search, budget: Budget) -> Choice:
    """Return the kept counts that meet a budget with the most score.

    Raises:
        UserError: No choice is as fast as asked.
    """
    if not len(search.full):
        if budget.kind == "latency" and _limit(search, budget) < search.cycles(search.full):
            raise _impossible(search, budget, search.cycles(search.full))
        return Choice(search.full, (), "no channel can be removed")
    picked, note = _by_sparsity(search, budget) if budget.kind == "sparsity" else _by_latency(search, budget)
    filled = _filled(search, picked)
    reasons = tuple(_reason(search, group, int(filled[group]), int(picked[group])) for group in range(len(filled)))
    return Choice(filled, reasons, note)


def parse_budget(sparsity: float | None, latency: str | float | None) -> Budget:
    """Return the budget of the two options; half of the channels where neither is given.

    Raises:
        UserError: Both are given, or one is not a number in its range.
    """
    if sparsity is not None and latency is not None:
        raise UserError(
            "both a sparsity and a latency are given", where="--sparsity, --latency", fix="Give one of them"
        )
    if latency is None:
        share = 0.5 if sparsity is None else sparsity
        if not isinstance(share, (int, float)) or not 0 <= share < 1:
            raise UserError(
                "not a share of channels", where=f"--sparsity {sparsity}", fix="Give a number from 0 to less than 1"
            )
        return Budget("sparsity", float(share), f"{share:g}")
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(x|ms)\s*", str(latency))
    if not found or not float(found[1]):
        raise UserError(
            "not a latency", where=f"--latency {latency}", fix="Give a share such as 0.6x or a time such as 1.5ms"
        )
    return Budget("latency", float(found[1]), f"{found[1]}{found[2]}")


def _by_sparsity(search: Search, budget: Budget) -> tuple[IntArray, str]:
    """Walk from no removal to the most; skip what would be slower than something that removes less."""
    total = int(search.weights @ search.full)
    steps = np.arange(SPARSITY_STEPS + 1)
    unit = math.gcd(*(int(w) * int(o) for w, os in zip(search.weights, search.options, strict=True) for o in os))
    tick = max(unit, -(-total // (2 * TICKS)))
    costs = [np.rint(w * os / tick).astype(np.int64) for w, os in zip(search.weights, search.options, strict=True)]
    most = sum(int(cost[-1]) for cost in costs)
    limits = np.floor(most * (1 - steps / SPARSITY_STEPS)).astype(np.int64)
    options = multiple_choice_knapsack(search.values, costs, limits)
    kept = _counts(search, options[(options >= 0).all(axis=1)])
    cycles = search.cycles(kept)
    falling = cycles <= np.minimum.accumulate(cycles) * (1 + SAME_TIME)
    kept = kept[falling]
    removed = 1 - kept @ search.weights / total
    enough = np.flatnonzero(removed >= budget.amount - 1 / (2 * SPARSITY_STEPS))
    if len(enough):
        return kept[enough[0]], ""
    furthest = int(removed.argmax())
    return kept[furthest], f"only {removed[furthest]:.0%} of the channels can be removed in whole tiles"


def _by_latency(search: Search, budget: Budget) -> tuple[IntArray, str]:
    """Walk from the whole network to the fastest; take the first candidate that is fast enough."""
    limit = _limit(search, budget)
    least = np.array([options[0] for options in search.options])
    fastest = float(search.cycles(least))
    if fastest > limit * (1 + SAME_TIME):
        raise _impossible(search, budget, fastest)
    for kept in _ladder(search):
        if float(search.cycles(kept)) <= limit * (1 + SAME_TIME):
            return kept, ""
    return least, ""


def _ladder(search: Search) -> Iterator[IntArray]:
    """Yield ever faster candidates: knapsacks of marginal times, priced again after each round."""
    kept, now = search.full, float(search.cycles(search.full))
    yield kept
    aim = now
    while True:
        aim *= 1 - ROUND
        candidates = _round(search, kept, now, aim)
        if candidates is None:
            return
        cycles = search.cycles(candidates)
        yield from candidates
        if cycles[-1] < now:
            kept, now = candidates[-1], float(cycles[-1])


def _round(search: Search, kept: IntArray, now: float, aim: float) -> IntArray | None:
    """Return candidates from ``now`` down to ``aim`` by the marginal times at ``kept``; None if nothing is left to cut."""
    times = search.marginal_cycles(kept)
    base = [time.min() for time in times]
    here = sum(
        time[np.searchsorted(options, count)] - low
        for time, low, options, count in zip(times, base, search.options, kept, strict=True)
    )
    room = here - (now - aim * np.linspace(1 + ROUND * (1 - 1 / STEPS), 1, STEPS))
    if room[-1] < 0:
        return None
    tick = max(here, 1.0) / TICKS
    costs = [np.rint((time - low) / tick).astype(np.int64) for time, low in zip(times, base, strict=True)]
    limits = np.floor(np.maximum(room, 0) / tick).astype(np.int64)
    options = multiple_choice_knapsack(search.values, costs, limits)
    options = options[(options >= 0).all(axis=1)]
    return _counts(search, options) if len(options) else None


def _filled(search: Search, kept: IntArray) -> IntArray:
    """Put channels back where that costs no time: a cut that saves nothing is not made."""
    kept = kept.copy()
    for _ in range(int(max(len(options) for options in search.options))):
        times = search.marginal_cycles(kept)
        total = float(search.cycles(kept))
        free = [
            group
            for group, (time, options) in enumerate(zip(times, search.options, strict=True))
            if _next_is_free(time, int(np.searchsorted(options, kept[group])))
        ]
        if not free:
            break
        for group in free:
            raised = kept.copy()
            options = search.options[group]
            raised[group] = options[np.searchsorted(options, kept[group]) + 1]
            if float(search.cycles(raised)) <= total * (1 + SAME_TIME):
                kept = raised
    return kept


def _next_is_free(time: FloatArray, option: int) -> bool:
    """Return whether the next larger option takes no more time."""
    return option + 1 < len(time) and bool(time[option + 1] <= time[option] * (1 + SAME_TIME))


def _options(size: int, step: int) -> IntArray:
    """Return the multiples of a step below a size, and the size."""
    return np.append(np.arange(step, size, step), size).astype(np.int64)


def _steps(groups: ChannelGroups, target: Target) -> list[int]:
    """Return how many units of each group fill whole tiles of every axis they touch."""
    of = groups.group_of
    steps, shared = [1] * len(groups.groups), [True] * len(groups.groups)
    for axis in groups.axes:
        if axis.role == "follows":
            continue
        quantum = target.align.cout if axis.role == "owns" else target.align.cin
        present, counts = np.unique(of[axis.units[axis.units >= 0]], return_counts=True)
        alone = len(present) == 1 and bool((axis.units >= 0).all())
        for group, count in zip(present, counts, strict=True):
            each = int(count) // len(groups.groups[group])
            steps[group] = math.lcm(steps[group], quantum // math.gcd(quantum, each))
            if axis.role == "owns" and alone:
                shared[group] = False
    # Where every axis has several groups their sum fills the tiles, so each may keep any number.
    return [1 if alone_nowhere else step for step, alone_nowhere in zip(steps, shared, strict=True)]


def _counts(search: Search, options: IntArray) -> IntArray:
    """Return kept counts of shape (candidates, groups) from option indices."""
    columns = [counts[options[:, group]] for group, counts in enumerate(search.options)]
    return np.stack(columns, axis=1)


def _limit(search: Search, budget: Budget) -> float:
    """Return a latency budget in cycles."""
    if budget.asked.endswith("x"):
        return budget.amount * float(search.cycles(search.full))
    return budget.amount * 1e-3 * search.target.array.frequency_hz


def _impossible(search: Search, budget: Budget, fastest: float) -> UserError:
    """Return the error for a time that cannot be reached."""
    dense = float(search.cycles(search.full))
    milliseconds = fastest / search.target.array.frequency_hz * 1e3
    return UserError(
        f"removing channels makes the model at best {fastest / dense:.3f}x ({milliseconds:.4g} ms) on {search.target.name}",
        where=f"--latency {budget.asked}",
        fix="Ask for no less than that",
    )


def _reason(search: Search, group: int, kept: int, picked: int) -> str:
    """Say why a group keeps what it keeps."""
    size, step = len(search.groups.groups[group]), search.steps[group]
    if kept == size:
        if len(search.options[group]) == 1:
            return f"its {size} channels do not fill more than one tile of {step}"
        return "removing some would save no time" if picked < size else "the budget is met without removing any"
    text = f"keeps {kept} of {size} channels"
    if kept > picked:
        text += f", {kept - picked} of them because they cost no time"
    if kept % step and step > 1:
        text += f"; not a multiple of {step}"
    return text + ("; the sum with others fills the tiles" if step == 1 and size > 1 else "")
