"""Budgets: what the user asked for, and what it means on a target."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from smartc.analysis.find_layers import Layers
from smartc.core.errors import Argument, UserError
from smartc.masks.granularity import Granularity
from smartc.targets.latency import Measure
from smartc.targets.target import Target

# How many of what a target counts one unit is; a share and a time depend on the network and the target.
_AMOUNTS = {
    "macs": {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12},
    "bytes": {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30},
}
_UNITS = {"latency": ("x", "ms")} | {kind: ("x", *amounts) for kind, amounts in _AMOUNTS.items()}
_NAMES = {"sparsity": "a sparsity", "latency": "a latency", "macs": "MACs", "bytes": "bytes"}
_REFUSALS = {
    "latency": ("not a latency", "Give a share such as 0.6x or a time such as 1.5ms"),
    "macs": ("not a number of MACs", "Give a share such as 0.5x or a number such as 300M or 1.2G"),
    "bytes": ("not a number of bytes", "Give a share such as 0.5x or a size such as 500kB or 1.5MiB"),
}


@dataclass(frozen=True)
class RequestedBudget:
    """What was asked for: a share of units to remove, or what may remain of time, MACs or bytes.

    Attributes:
        kind: ``sparsity``, ``latency``, ``macs`` or ``bytes``.
        amount: The number that was given.
        asked: The number with its unit: none, ``x``, ``ms``, one such as ``M``, or one such as ``MB``.
    """

    kind: str
    amount: float
    asked: str

    @property
    def measure(self) -> Measure:
        """Return what a search for this budget counts."""
        return _measure(self.kind)

    def resolved(self, dense: float, target: Target) -> Budget:
        """Return the budget of a network on a target, given the cycles, MACs or bytes of the whole network."""
        if self.kind == "sparsity":
            return Budget(self.kind, self.asked, 1 - self.amount, 1.0, 1.0)
        size = self._unit_size(dense, target.array.frequency_hz)
        return Budget(self.kind, self.asked, self.amount * size, dense, size)

    def _unit_size(self, dense: float, frequency_hz: float) -> float:
        """Return how many cycles, MACs or bytes one of the unit is."""
        unit = _unit(self.asked)
        if unit == "x":
            return dense
        return frequency_hz / 1e3 if self.kind == "latency" else _AMOUNTS[self.kind][unit]


@dataclass(frozen=True)
class Budget:
    """What may remain of one network on one target.

    Attributes:
        kind: ``sparsity``, ``latency``, ``macs`` or ``bytes``.
        asked: What was asked for, a number with its unit.
        limit: The share of the units, or the cycles, MACs or bytes, that may remain.
        dense: The same of the whole network; 1 for a share of the units.
        unit_size: The share, cycles, MACs or bytes that one of the unit asked for is.
    """

    kind: str
    asked: str
    limit: float
    dense: float
    unit_size: float

    @property
    def measure(self) -> Measure:
        """Return what a search for this budget counts."""
        return _measure(self.kind)

    def stated(self, cost: float, whole: float) -> str:
        """Return cycles, MACs or bytes in the unit that was asked for; a share is one of ``whole``."""
        unit = _unit(self.asked)
        size = whole if unit == "x" else self.unit_size
        number = cost / size if size else 1.0
        if unit == "x":
            return f"{number:.4f}x"
        return f"{number:.4g}{unit}" if number < 9999.5 else f"{number:.0f}{unit}"


def parse_budget(
    sparsity: float | None = None,
    latency: str | float | None = None,
    macs: str | float | None = None,
    bytes: str | float | None = None,
) -> RequestedBudget:
    """Return the budget of the four options; half of the channels where none is given.

    Raises:
        UserError: More than one is given, or one is not a number in its range.
    """
    options = {"sparsity": sparsity, "latency": latency, "macs": macs, "bytes": bytes}
    given = [kind for kind, value in options.items() if value is not None]
    if len(given) > 1:
        raise _several(given)
    if not given or given == ["sparsity"]:
        return _sparsity(0.5 if sparsity is None else sparsity)
    return _amount(given[0], options[given[0]])


def budget_of(granularity: Granularity, budget: RequestedBudget, given: bool) -> RequestedBudget:
    """Return a budget that a granularity can meet: n:m fixes its own.

    Args:
        granularity: What a mask removes at a time.
        budget: What was asked for, or the default.
        given: Whether it was asked for.

    Raises:
        UserError: It is another than that of n:m.
    """
    share = granularity.fixed_share
    if share is None:
        return budget
    if given and (budget.kind != "sparsity" or abs(budget.amount - share) > 1e-9):
        fact = f"{granularity} removes {share:.1%} of the weights, and no other budget can be met by it"
        raise UserError(fact, where=Argument("granularity", str(granularity)), fix="Leave the budget out")
    return _sparsity(share)


def resolved_budget(budget: RequestedBudget, layers: Layers, target: Target) -> Budget:
    """Return the budget of a network on a target, given its layers."""
    costs = target.price(layers.workload(target, layers.full_sizes))
    return budget.resolved(float(costs.in_measure(budget.measure).sum()), target)


def impossible(budget: Budget, least: float, target: Target, granularity: Granularity | None = None) -> UserError:
    """Return the error for a budget that cannot be reached; the figures in it can be asked for.

    Args:
        budget: What was asked for.
        least: The fewest cycles, MACs or bytes that can be reached.
        target: The device.
        granularity: What is removed at a time; channels if it is not given.
    """
    what_goes = "channels" if granularity is None else granularity.plural
    share = _rounded_up(least / budget.dense if budget.dense else 1.0)
    if budget.kind == "latency":
        milliseconds = _rounded_up(least / target.array.frequency_hz * 1e3)
        fact = f"removing {what_goes} makes the model at best {share}x ({milliseconds} ms) on {target.name}"
    else:
        what = "MACs" if budget.kind == "macs" else f"bytes of weights on {target.name}"
        fact = f"removing {what_goes} leaves at least {share}x ({_amount_text(least, budget.kind)}) of the {what}"
    if granularity is not None and not granularity.spans_weights and not target.sparsity.zero_tile_skip:
        fact += "; it computes zero tiles as it does others, so that only channels that nothing reads save something"
    return UserError(fact, where=Argument(budget.kind, budget.asked), fix="Ask for no less than that")


def _measure(kind: str) -> Measure:
    """Return what a search for a kind of budget counts; units are removed for the sake of time."""
    if kind == "macs":
        return "macs"
    return "bytes" if kind == "bytes" else "latency"


def _unit(asked: str) -> str:
    """Return the unit that was asked for."""
    return asked.lstrip("0123456789.")


def _several(given: list[str]) -> UserError:
    """Return the error for more than one budget."""
    *first, last = (_NAMES[kind] for kind in given)
    both = "both " if len(given) == 2 else ""
    where = tuple(part for kind in given for part in (", ", Argument(kind)))[1:]
    return UserError(f"{both}{', '.join(first)} and {last} are given", where=where, fix="Give one of them")


def _sparsity(share: object) -> RequestedBudget:
    """Check a share of channels."""
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1:
        fix = "Give a number from 0 to less than 1"
        raise UserError("not a share of channels", where=Argument("sparsity", share), fix=fix)
    return RequestedBudget("sparsity", float(share), f"{share:g}")


def _amount(kind: str, text: object) -> RequestedBudget:
    """Check a number and its unit."""
    units = "|".join(_UNITS[kind])
    found = re.fullmatch(rf"\s*(\d+(?:\.\d*)?|\.\d+)\s*({units})\s*", str(text), re.ASCII)
    if not found or not 0 < float(found[1]) < math.inf:
        fact, fix = _REFUSALS[kind]
        raise UserError(fact, where=Argument(kind, text), fix=fix)
    return RequestedBudget(kind, float(found[1]), f"{found[1]}{found[2]}")


def _amount_text(number: float, kind: str) -> str:
    """Return a number of MACs or bytes, rounded up, in the largest decimal unit that it has one of."""
    decimal = {unit: size for unit, size in _AMOUNTS[kind].items() if "i" not in unit}
    unit = next((unit for unit, size in reversed(decimal.items()) if number >= size), next(iter(decimal)))
    return f"{_rounded_up(number / decimal[unit])}{unit}"


def _rounded_up(number: float) -> str:
    """Return a positive number with four digits, none of them for the better and none of them as an exponent."""
    digits = 4 - math.ceil(math.log10(number)) if number > 0 else 0
    # The smallest step up that survives rounding: a figure that is exact must not grow.
    raised = math.ceil(number * 10.0**digits * (1 - 1e-12)) / 10.0**digits
    return f"{raised:.{max(digits, 0)}f}"
