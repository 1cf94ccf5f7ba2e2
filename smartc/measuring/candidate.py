"""A candidate: a decision carried out, in files that were timed."""

from __future__ import annotations

from dataclasses import dataclass

from smartc.decision.decision import Decision
from smartc.decision.plan import Plan
from smartc.lowering.files import Files
from smartc.measuring.measurement import Measurement
from smartc.measuring.put_back import KernelChoice
from smartc.packing.pack import PackedModel


@dataclass(frozen=True, eq=False)
class Candidate:
    """What a decision came to.

    Attributes:
        decision: What was to be kept.
        choice: What is kept after what does not pay was put back.
        packed: The smaller model.
        plan: What tells others of it.
        files: What it was lowered to.
        times: What the dense network and the files take; None where nothing is timed.
    """

    decision: Decision
    choice: KernelChoice
    packed: PackedModel
    plan: Plan
    files: Files
    times: Measurement | None

    @property
    def removes(self) -> bool:
        """Return whether anything of the original is missing."""
        decision = self.choice.decision
        return not decision.keep.all() or (decision.kept is not None and not decision.kept.all())
