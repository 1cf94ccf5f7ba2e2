"""Budgets: what the user asked for, and what it means on a target."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from smartc.errors import UserError


@dataclass(frozen=True)
class Budget:
    """What was asked for: a share of channels to remove, or a time (relative or in ms).

    Attributes:
        kind: ``sparsity`` or ``latency``.
        amount: The number that was given.
        asked: The number with its unit: none, ``x`` or ``ms``.
    """

    kind: str
    amount: float
    asked: str

    def cycles(self, dense: float, frequency_hz: float) -> float:
        """Return a latency budget in cycles, given those of the whole network."""
        return self.amount * (dense if self.asked.endswith("x") else frequency_hz / 1e3)


def parse_budget(sparsity: float | None, latency: str | float | None) -> Budget:
    """Return the budget of the two options; half of the channels where neither is given.

    Raises:
        UserError: Both are given, or one is not a number in its range.
    """
    if sparsity is not None and latency is not None:
        both = "both a sparsity and a latency are given"
        raise UserError(both, where="--sparsity, --latency", fix="Give one of them")
    return _sparsity(0.5 if sparsity is None else sparsity) if latency is None else _latency(latency)


def impossible(budget: Budget, fastest: float, dense: float, device: tuple[str, float]) -> UserError:
    """Return the error for a time that cannot be reached; the figures in it can be asked for.

    Args:
        budget: What was asked for.
        fastest: The fewest cycles that can be reached.
        dense: The cycles of the whole network.
        device: The target's name and frequency in Hz.
    """
    name, frequency_hz = device
    share = _rounded_up(fastest / dense if dense else 1.0)
    milliseconds = _rounded_up(fastest / frequency_hz * 1e3)
    return UserError(
        f"removing channels makes the model at best {share}x ({milliseconds} ms) on {name}",
        where=f"--latency {budget.asked}",
        fix="Ask for no less than that",
    )


def _sparsity(share: object) -> Budget:
    """Check a share of channels."""
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1:
        fix = "Give a number from 0 to less than 1"
        raise UserError("not a share of channels", where=f"--sparsity {share}", fix=fix)
    return Budget("sparsity", float(share), f"{share:g}")


def _latency(text: object) -> Budget:
    """Check a time and its unit."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(x|ms)\s*", str(text), re.ASCII)
    if not found or not 0 < float(found[1]) < math.inf:
        fix = "Give a share such as 0.6x or a time such as 1.5ms"
        raise UserError("not a latency", where=f"--latency {text}", fix=fix)
    return Budget("latency", float(found[1]), f"{found[1]}{found[2]}")


def _rounded_up(number: float) -> str:
    """Return a positive number with four digits, none of them for the better and none of them as an exponent."""
    digits = 4 - math.ceil(math.log10(number)) if number > 0 else 0
    # The smallest step up that survives rounding: a figure that is exact must not grow.
    raised = math.ceil(number * 10.0**digits * (1 - 1e-12)) / 10.0**digits
    return f"{raised:.{max(digits, 0)}f}"
