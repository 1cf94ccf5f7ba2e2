"""The lower stage: a packed model in files that run without smartc."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from smartc.decision.job import CompileJob
from smartc.decision.plan import Plan
from smartc.ir.traced_model import Remark
from smartc.lowering.lower import Lowered, lower
from smartc.packing.pack import PackedModel


@dataclass(frozen=True, eq=False)
class Files:
    """The files that a model was lowered to, and why a chosen one is missing."""

    lowered: Sequence[Lowered] = ()
    remarks: Sequence[Remark] = ()


def lower_to(
    job: CompileJob, plan: Plan, packed: PackedModel, backends: Sequence[str], dense: Mapping[str, bool]
) -> Files:
    """Return the files of the chosen backends; none where no backend is.

    Args:
        job: What is compiled.
        plan: What was decided; its hash is written into the files.
        packed: What is lowered.
        backends: Of ``BACKENDS``.
        dense: Layers, by the user's name, whose zeros TVM's code computes like other weights.
    """
    if not backends:
        return Files()
    metadata = {"version": plan.smartc, "target": job.target.name, "plan": plan.sha256}
    with job.clock("lowering"):
        lowered, remarks = lower(packed.model, backends, metadata, packed=packed.blocks, dense=dense)
    facts = (*(f"wrote {part.file}" for part in lowered), *(f"{where}: {text}" for where, text, _ in remarks))
    job.dump.stage("lower", packed.model, *facts)
    return Files(lowered, remarks)
