"""Find which weights are smaller as the tiles of them that are not zero, in a target's own order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx

from smartc.analysis.weight_use import WeightUse, weight_use
from smartc.ir.traced_model import Remark, TracedModel, layer_name, storage_key
from smartc.masks.packed_weight import LEAST_SAVING, PackedWeight, pack
from smartc.targets.target import Target

PACKED = "its zero tiles are left out of the files"
TOO_FEW = f"its zero tiles are stored: leaving them out would save less than {LEAST_SAVING:.0%} of its bytes"


@dataclass(frozen=True, eq=False)
class PackedBlocks:
    """The weights of a model that are packed, by name, and for each weight what was done or why not.

    Attributes:
        weights: In their packed form.
        remarks: One for each weight.
        target: The device whose tiles they are packed in.
    """

    weights: Mapping[str, PackedWeight]
    remarks: tuple[Remark, ...]
    target: Target


def pack_blocks(model: TracedModel, target: Target) -> PackedBlocks:
    """Return the packed form of every weight that it makes smaller by at least ``LEAST_SAVING``.

    The zeros are those that the weights have; the tiles and their order are the target's.
    """
    weights: dict[str, PackedWeight] = {}
    remarks: list[Remark] = []
    for first, readers in _readers(model):
        place = layer_name(next(reader for reader in readers if weight_use(model, reader) == first))
        if any(not _same(weight_use(model, reader), first) for reader in readers):
            remarks.append(Remark(place, f"stays dense: {first.name} is also used in another way"))
            continue
        packed = packed_for(model, first, target)
        pays = packed.saving >= LEAST_SAVING
        if pays:
            weights[first.name] = packed
        remarks.append(Remark(place, PACKED if pays else TOO_FEW, changed=pays))
    return PackedBlocks(weights, tuple(remarks), target)


def packed_for(model: TracedModel, use: WeightUse, target: Target) -> PackedWeight:
    """Return the packed form of one weight in a target's own tiles and order."""
    into, out = target.sparsity.tile
    single = target.sparsity.per_kernel_position
    return pack(
        model.tensor(use.name),
        (out, into),
        single,
        groups=use.groups,
        transposed=use.transposed,
        folded=single and target.array.reduction == "im2col",
    )


def _readers(model: TracedModel) -> Iterator[tuple[WeightUse, list[fx.Node]]]:
    """Yield each weight, as the first call multiplies by it, with all calls that read it under any name."""
    readers: dict[Any, list[fx.Node]] = {}
    for node in model.graph.nodes:
        for source in node.all_input_nodes:
            if source.op == "get_attr":
                readers.setdefault(storage_key(model.tensor(str(source.target))), []).append(node)
    seen = set()
    for node in model.calls():
        use = weight_use(model, node)
        key = None if use is None else storage_key(model.tensor(use.name))
        if use is not None and key not in seen:
            seen.add(key)
            yield use, readers[key]


def _same(use: WeightUse | None, other: WeightUse) -> bool:
    """Return whether two calls see the same tiles."""
    return use is not None and (use.groups, use.transposed) == (other.groups, other.transposed)
