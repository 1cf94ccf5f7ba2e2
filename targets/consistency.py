"""What the keys of a target description must say together: a source for each, and no contradiction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smartc.core.errors import UserError
from smartc.targets.parse import leaves, place

if TYPE_CHECKING:
    from smartc.targets.target import Target

_NEED_NO_SOURCE = ("schema", "target", "source")


def check_sources(target: Target, file: str) -> None:
    """Raise unless each key, or the table it is in, has a source, and each source has a key."""
    keys = [key for key in leaves(target) if key.split(".")[0] not in _NEED_NO_SOURCE]
    names = {name for key in keys for name in _holders(key)}
    for key in keys:
        if not any(name in target.source for name in _holders(key)):
            fix = f'Say where the value comes from, as in {key} = "data sheet, page 3"'
            raise UserError("missing", where=place(file, ("source", key)), fix=fix)
    for name in target.source:
        if name not in names:
            fix = "Name a key of this file, as in array.rows, or a section"
            raise UserError("unknown key", where=place(file, ("source", name)), fix=fix)


def check_consistency(target: Target, file: str) -> None:
    """Raise where two keys are usable alone but not together."""
    array, sparsity = target.array, target.sparsity
    if array.dataflow != "ws" and array.fill != "serial":
        fact = f'"{array.fill}" is not modelled for dataflow = "{array.dataflow}"'
        raise UserError(fact, where=f"{file}, [array] fill", fix='Give "serial", or dataflow = "ws"')
    if sparsity.zero_tile_skip and array.dataflow != "ws":
        fact = f'skipping is not modelled for dataflow = "{array.dataflow}"'
        fix = 'Give false, or dataflow = "ws"'
        raise UserError(fact, where=f"{file}, [sparsity] zero_tile_skip", fix=fix)
    uses_masks = sparsity.zero_tile_skip or sparsity.weight_compression
    if uses_masks and sparsity.tile != (array.rows, array.cols):
        fact = f"{list(sparsity.tile)} is not the tile of the array, {array.rows} x {array.cols}"
        raise UserError(fact, where=f"{file}, [sparsity] tile", fix=f"Give [{array.rows}, {array.cols}]")
    kept, _, of = sparsity.nm.partition(":")
    if of and int(kept) >= int(of):
        fix = "Give none, or N:M with N below M"
        raise UserError(f"{sparsity.nm} removes nothing", where=f"{file}, [sparsity] nm", fix=fix)
    if not of and sparsity.nm_gain != 1:
        fact = f'{sparsity.nm_gain:g} has no effect with nm = "none"'
        fix = "Give 1, or the pattern that is faster as nm"
        raise UserError(fact, where=f"{file}, [sparsity] nm_gain", fix=fix)


def _holders(key: str) -> list[str]:
    """Return the dotted key and the tables around it."""
    parts = key.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
