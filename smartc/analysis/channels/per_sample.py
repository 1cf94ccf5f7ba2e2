"""Axes that hold the batch and channels inside it, such as that of a view that merges batch and heads.

Labels are those of one sample: of such an axis they name the indices of each sample.
"""

from __future__ import annotations

from smartc.ir.traced_model import BATCH_PRIME, Value

# The rules that hold for every sample by itself where an axis carries the batch and channels inside it.
PER_SAMPLE = frozenset(
    "reshape squeeze view_as permute transpose movedim matrix_transpose expand unary joined bounding bounding_below "
    "bounding_above multiplication division product added_product einsum attention along average reduction getitem "
    "linear layer_norm number gather".split()
)


def is_per_sample(value: Value, axis: int) -> bool:
    """Return whether an axis holds so many indices for each sample of the batch."""
    size = value.shape[axis]
    return axis in value.computed - value.free and size % BATCH_PRIME == 0 and size // BATCH_PRIME % BATCH_PRIME > 0


def sample_shape(value: Value) -> tuple[int, ...]:
    """Return the shape of what belongs to one sample; axes that do not fall apart by samples have all of them."""
    return tuple(size // BATCH_PRIME if is_per_sample(value, axis) else size for axis, size in enumerate(value.shape))
