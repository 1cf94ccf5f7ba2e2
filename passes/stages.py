"""The passes of a compile: one list, in the order in which they run, with the stage that each belongs to."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from smartc.ir.traced_model import TracedModel
from smartc.passes.drop_assertions import DropAssertions
from smartc.passes.fold_batch_norm import FoldBatchNorm
from smartc.passes.fold_constants import FoldConstants
from smartc.passes.inline_regions import InlineRegions
from smartc.passes.insert_masks import InsertMasks, RemoveMasks
from smartc.passes.linear_of_transpose import LinearOfTranspose
from smartc.passes.make_functional import MakeFunctional
from smartc.passes.merge_shuffles import MergeShuffles
from smartc.passes.normalise_kept import NormaliseKept
from smartc.passes.permute_channels import PermuteChannels
from smartc.passes.remove_channels import RemoveChannels
from smartc.passes.share_statistics import ShareStatistics
from smartc.passes.shared.base import Pass, PassResult, run_passes
from smartc.passes.split_recurrences import SplitRecurrences
from smartc.passes.training_mode import TrainingMode

PASSES: tuple[tuple[str, type[Pass]], ...] = (
    # All other passes and analyses see one graph.
    ("capture", InlineRegions),
    ("capture", DropAssertions),
    # Merged shuffles are found among calls that write nothing in place.
    ("capture", MakeFunctional),
    ("capture", MergeShuffles),
    ("capture", LinearOfTranspose),
    ("capture", SplitRecurrences),
    # A network that is yet to be trained keeps what its parameters compute, so that this is no part of the capture.
    ("fold", FoldConstants),
    # Masks are inserted into a network that trains; what learning decides runs them, not every compile does.
    ("learn", TrainingMode),
    ("learn", InsertMasks),
    ("learn", ShareStatistics),
    ("learn", RemoveMasks),
    ("remove", RemoveChannels),
    # What the result has to equal where norms lose channels: the same model before removal.
    ("narrow", NormaliseKept),
    # Only channels that are left can fill tiles.
    ("pack", PermuteChannels),
    ("lower", FoldBatchNorm),
)


def run_stage(stage: str, model: TracedModel, **options: Any) -> PassResult:
    """Run the passes of a stage in order.

    Args:
        stage: One of those in ``PASSES``.
        model: Is left as it is.
        options: The fields of the stage's passes, by name.

    Raises:
        InternalError: A pass left a graph that is not well formed; the error names the pass.
        TypeError: An option is no field of a pass of the stage, or one is missing.
    """
    kinds = [kind for name, kind in PASSES if name == stage]
    taken = [{field.name for field in fields(kind)} for kind in kinds]  # type: ignore[arg-type]
    unknown = options.keys() - set().union(*taken)
    if unknown or not kinds:
        raise TypeError(f"stage {stage!r} takes no {', '.join(sorted(unknown)) or 'passes'}")
    own = [{name: options[name] for name in names & options.keys()} for names in taken]
    return run_passes(model, [kind(**given) for kind, given in zip(kinds, own, strict=True)])
