"""Write all tensors of a model to one safetensors file, packed weights as their live tiles.

docs/packed-weights.md describes the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import load, save

from smartc.ir.traced_model import TracedModel, storage_key
from smartc.masks.packed_weight import PackedWeight, TileOrder
from smartc.targets.target import Target

FORMAT = 1
# One key holds it all: the library writes several in an order that differs from run to run.
_KEY = "smartc"


def to_safetensors(model: TracedModel, weights: Mapping[str, PackedWeight], target: Target) -> bytes:
    """Return the content of ``weights.safetensors``.

    Args:
        model: Its other tensors are stored whole.
        weights: Packed weights of the model, by name.
        target: What they were packed for.
    """
    tensors: dict[str, torch.Tensor] = {}
    described: dict[str, Any] = {}
    stored = {**dict(model.graph_module.named_parameters()), **dict(model.graph_module.named_buffers())}
    # A tied weight is stored under the first of its names, whichever of them was packed.
    by_storage = {storage_key(model.tensor(name)): packed for name, packed in weights.items()}
    for name, tensor in stored.items():
        packed = by_storage.get(storage_key(tensor))
        if packed is None:
            tensors[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        else:
            tensors |= _parts(name, packed)
            described[name] = _description(packed)
    aliases = {name: list(model.names_of(name)) for name in stored if len(model.names_of(name)) > 1}
    about = {"format": FORMAT, "target": target.name, "packed": described, "aliases": aliases}
    return bytes(save(tensors, {_KEY: json.dumps(about, separators=(",", ":"))}))


def from_safetensors(content: bytes) -> dict[str, torch.Tensor]:
    """Return all tensors that such a file holds, packed weights whole again.

    Raises:
        ValueError: The content was not written by ``to_safetensors``.
    """
    tensors = load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    try:
        about = json.loads(header["__metadata__"][_KEY])
    except KeyError:
        raise ValueError("the file does not say how its weights are packed") from None
    for name, entry in about["packed"].items():
        parts = {part: tensors.pop(f"{name}.{part}") for part in ("tiles", "row_ptr", "col_idx", "permutation")}
        order = TileOrder(
            tuple(entry["shape"]),
            tuple(entry["tile"]),
            entry["per_kernel_position"],
            entry["groups"],
            entry["transposed"],
            entry["folded"],
        )
        index = {part: parts[part].numpy() for part in ("row_ptr", "col_idx", "permutation")}
        tensors[name] = PackedWeight(order, parts["tiles"], **index).unpack()
    return tensors


def _parts(name: str, packed: PackedWeight) -> dict[str, torch.Tensor]:
    """Return the tensors that stand for a packed weight."""
    index = {part: torch.from_numpy(getattr(packed, part)) for part in ("row_ptr", "col_idx", "permutation")}
    return {f"{name}.{part}": tensor for part, tensor in ({"tiles": packed.tiles.contiguous()} | index).items()}


def _description(packed: PackedWeight) -> dict[str, Any]:
    """Return what a reader has to know beside the tensors."""
    order = packed.order
    runs, length = order.columns
    return {
        "shape": order.shape,
        "tile": order.tile,
        "per_kernel_position": order.per_kernel_position,
        "groups": order.groups,
        "transposed": order.transposed,
        "folded": order.folded,
        "channels": order.channels,
        "blocks": order.blocks,
        "layers": order.layers,
        "runs": runs,
        "run_length": length,
        "live_tiles": packed.live,
    }
