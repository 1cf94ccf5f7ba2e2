"""What the keys of a target description must say together: no contradiction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smartc.core.errors import UserError

if TYPE_CHECKING:
    from smartc.targets.target import Target


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
