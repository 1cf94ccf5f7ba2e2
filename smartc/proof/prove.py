"""The prove stage: every form of a compiled model against the masked original."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from smartc.decision.decision import Decision
from smartc.decision.job import CompileJob
from smartc.ir.traced_model import TracedModel
from smartc.proof.reference import Reference
from smartc.results.figures import Verification


class Provable(Protocol):
    """A file that can be run."""

    def prove(self, reference: Reference) -> Verification:
        """Return the error against the masked original, or raise."""


def prove(
    job: CompileJob, learned: Decision, decision: Decision, smaller: TracedModel, files: Sequence[Provable]
) -> tuple[Verification, ...]:
    """Return the error of every stage against the masked original.

    Args:
        job: What is compiled.
        learned: The decision as it was learned; its masks in the graph are proved too, if there are any.
        decision: The decision that was carried out; another one where measurements put something back.
        smaller: The model without what was removed.
        files: What it was lowered to.

    Raises:
        InternalError: A stage computes something else.
    """
    with job.clock("proof"):
        reference = masked_original(decision)
        proofs = [reference.prove_removal(smaller), *(file.prove(reference) for file in files)]
        if learned.masked is not None:
            searched = reference if decision is learned else masked_original(learned)
            proofs.insert(0, searched.prove_masks(learned.masked))
    job.dump.stage("prove", None, *(f"{proof.stage}: relative error {proof.max_rel_error:.1e}" for proof in proofs))
    return tuple(proofs)


def masked_original(decision: Decision) -> Reference:
    """Return the masked original of a decision."""
    return Reference(decision.model, decision.options.groups, decision.keep)
