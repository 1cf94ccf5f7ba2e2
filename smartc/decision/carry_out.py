"""The remove and pack stages: a decision carried out."""

from __future__ import annotations

from smartc.decision.decision import Decision
from smartc.decision.job import CompileJob
from smartc.ir.traced_model import TracedModel
from smartc.packing.pack import PackedModel, pack_model
from smartc.passes.stages import run_stage


def remove(job: CompileJob, decision: Decision) -> TracedModel:
    """Return the model without the channels that were not kept."""
    with job.clock("removal"):
        smaller = run_stage("remove", decision.model, groups=decision.options.groups, keep=decision.keep).model
    job.dump.stage("remove", smaller)
    return smaller


def pack(job: CompileJob, decision: Decision, smaller: TracedModel) -> PackedModel:
    """Return the model with its blocks packed in the target's tiles, where blocks were removed.

    Only there has another order of channels anything to gain; patterns of neighbours would be torn by it.
    """
    blocks, reorder = decision.units is not None, job.granularity.kind == "block"
    with job.clock("removal"):
        packed = pack_model(smaller, job.target, blocks=blocks, reorder=reorder)
    job.dump.stage("pack", packed.model, *_facts(packed))
    return packed


def _facts(packed: PackedModel) -> list[str]:
    """Return a line on each weight that is packed, and on each that is not, with the reason."""
    remarks = () if packed.blocks is None else packed.blocks.remarks
    return [f"{remark.where}: {remark.text}" for remark in (*packed.remarks, *remarks)]
