"""What was asked for: checked before any work begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from smartc.core.errors import Argument, UserError
from smartc.learning.learners.registry import chosen_learner
from smartc.lowering.lower import BACKENDS
from smartc.masks.granularity import ChannelGranularity, Granularity, parse_granularity
from smartc.measuring.measured_target import with_costs
from smartc.selection.budget import RequestedBudget, budget_of, parse_budget
from smartc.targets.target import Target, load_target


@dataclass(frozen=True, eq=False)
class Request:
    """What was asked for, not yet checked.

    Attributes:
        target: A target, its name, or the path of its TOML file.
        budget: Sparsity, latency, MACs and bytes, as ``smartc.compile`` takes them.
        granularity: What a mask shall remove at a time, or ``auto``.
        learner: Where masks shall come from; None is the default.
        with_data: Whether there is something to learn from.
        backends: What to lower to; None is the default.
        output_names: What to call the outputs; None leaves that to the model's own structure.
        outputs: The outputs to compile, by position or name; None for all.
        keep: The layers to leave alone, by names or patterns.
        only: Likewise the layers not to leave alone; empty for all.
        uniform: Whether repeated blocks shall keep one width.
        approximate: Whether norms may lose channels that they take statistics over.
    """

    target: str | Target
    budget: tuple[float | None, str | float | None, str | None, str | None]
    granularity: str
    learner: str | None
    with_data: bool
    backends: Sequence[str] | None = None
    output_names: Sequence[str] | None = None
    outputs: int | str | Sequence[int | str] | None = None
    keep: str | Sequence[str] = ()
    only: str | Sequence[str] = ()
    uniform: bool = False
    approximate: bool = False


class Checked(NamedTuple):
    """What was asked for, in the types that the stages take."""

    target: Target
    budget: RequestedBudget
    granularity: Granularity
    learner: str


def check(asked: Request) -> Checked:
    """Return what was asked for, checked; a machine that was never measured is measured here.

    Raises:
        UserError: Something is not known, or does not go with the rest.
    """
    check_backends(asked.backends)
    learner = chosen_learner(asked.learner, asked.with_data)
    target = load_target(asked.target) if isinstance(asked.target, str) else asked.target
    target = with_costs(target, asked.backends)
    channels = asked.approximate or not asked.with_data
    wanted = "channel" if asked.granularity == "auto" and channels else asked.granularity
    granularity = parse_granularity(wanted, target)
    if asked.approximate and not isinstance(granularity, ChannelGranularity):
        fact = f"{granularity} takes no channel of a norm, so there is nothing to approximate"
        raise UserError(fact, where=Argument("approximate"), fix="Leave it out, or remove channels")
    given = any(part is not None for part in asked.budget)
    return Checked(target, budget_of(granularity, parse_budget(*asked.budget), given), granularity, learner)


def check_backends(backends: Sequence[str] | None) -> None:
    """Raise unless there is a lowering to each backend."""
    for backend in backends or ():
        if backend not in BACKENDS:
            fix = f"Choose one of {', '.join(BACKENDS)}"
            raise UserError("not known", where=Argument("backends", (backend,)), fix=fix)
