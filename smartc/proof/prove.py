"""The prove stage: every form of a compiled model against the masked original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from smartc.core.errors import SmartcError, first_line
from smartc.core.out_of_memory import memory_error
from smartc.decision.decision import Decision
from smartc.decision.job import CompileJob
from smartc.ir.traced_model import Remark, TracedModel
from smartc.passes.stages import run_stage
from smartc.proof.reference import Reference
from smartc.results.figures import Verification

# What stands for the masked original where norms lose channels.
NARROWED = "masked, norms over what stays"


class Provable(Protocol):
    """A file that can be run."""

    @property
    def file(self) -> str:
        """Return its name."""

    @property
    def runtime(self) -> str | None:
        """Return what runs it, None where that is PyTorch."""

    def prove(self, reference: Reference) -> Verification:
        """Return the error against the masked original, or raise."""


File = TypeVar("File", bound=Provable)


@dataclass(frozen=True, eq=False)
class Proved(Generic[File]):
    """What was proved, the files that passed, and why others did not.

    Attributes:
        verifications: The error of every stage.
        files: Those that compute what they should.
        remarks: One for each file that does not, because of the runtime that it is for.
    """

    verifications: tuple[Verification, ...]
    files: tuple[File, ...]
    remarks: tuple[Remark, ...]


def prove(
    job: CompileJob, learned: Decision, decision: Decision, smaller: TracedModel, files: Sequence[File]
) -> Proved[File]:
    """Return the error of every stage against the masked original, and the files that passed.

    Args:
        job: What is compiled.
        learned: The decision as it was learned; its masks in the graph are proved too, if there are any.
        decision: The decision that was carried out; another one where measurements put something back.
        smaller: The model without what was removed.
        files: What it was lowered to.

    Raises:
        InternalError: A stage of smartc's own computes something else.
    """
    with job.clock("proof"):
        reference = masked_original(decision)
        removal = reference.prove_removal(smaller)
        found = prove_files(reference, files)
        proofs = [removal, *found.verifications]
        if learned.masked is not None:
            # The masks in the graph leave every norm its statistics.
            searched = Reference(learned.unrepaired or learned.model, learned.options.groups, learned.keep)
            proofs.insert(0, searched.prove_masks(learned.masked))
    job.dump.stage("prove", None, *(f"{proof.stage}: relative error {proof.max_rel_error:.1e}" for proof in proofs))
    return Proved(tuple(proofs), found.files, found.remarks)


def prove_files(reference: Reference, files: Sequence[File]) -> Proved[File]:
    """Return the error of every file; one that its runtime computes wrongly or not at all is left out with a remark.

    Raises:
        InternalError: A file that PyTorch runs computes something else.
    """
    proofs, passed, remarks = [], [], []
    for file in files:
        try:
            proofs.append(file.prove(reference))
            passed.append(file)
        except Exception as error:
            if file.runtime is None or memory_error(error, file.file) is not None:
                raise
            fact = error.fact if isinstance(error, SmartcError) else first_line(error)
            remarks.append(Remark(file.file, f"is not written: in {file.runtime} {fact}"))
    return Proved(tuple(proofs), tuple(passed), tuple(remarks))


def masked_original(decision: Decision) -> Reference:
    """Return the masked original of a decision; where norms lose channels, one whose norms see only what stays."""
    groups, keep = decision.options.groups, decision.keep
    if not groups.changed_norms(keep):
        return Reference(decision.model, groups, keep)
    return Reference(narrowed(decision), groups, keep, NARROWED)


def narrowed(decision: Decision) -> TracedModel:
    """Return the model of a decision with norms that take their statistics over the channels that stay."""
    return run_stage("narrow", decision.model, groups=decision.options.groups, keep=decision.keep).model
