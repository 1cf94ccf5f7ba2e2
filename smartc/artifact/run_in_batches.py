"""A model of a build run on any number of samples, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from smartc.artifact.runner import Array, Runner
from smartc.core.errors import UserError

# A batch holds at most so many samples, and its inputs at most so many bytes.
MOST_SAMPLES, MOST_BYTES = 256, 2**25


def run_in_batches(
    runner: Runner, arrays: Mapping[str, Array], watch: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Array]:
    """Return the outputs of all samples, in their order.

    Args:
        runner: The model; where it fixes its batch, the arrays are one batch.
        arrays: By the names of the inputs, axis 0 the sample.
        watch: Called after each batch with how many of how many samples are done.

    Raises:
        UserError: The samples take several batches and an output has no axis of samples.
    """
    free = [wanted.name for wanted in runner.inputs if wanted.shape and wanted.shape[0] is None]
    count = len(arrays[free[0]]) if free else 1
    size = batch_size(arrays, free)
    if count <= size:
        return runner.call(arrays)
    parts: list[dict[str, Array]] = []
    for start in range(0, count, size):
        stop = min(start + size, count)
        part = {name: array[start:stop] if name in free else array for name, array in arrays.items()}
        parts.append(runner.call(part))
        _check_samples(parts[-1], stop - start, size, runner.file)
        watch(stop, count)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def batch_size(arrays: Mapping[str, Array], free: list[str]) -> int:
    """Return how many samples a batch of these arrays holds, at least one."""
    sample = sum(arrays[name][:1].nbytes for name in free)
    return max(1, min(MOST_SAMPLES, MOST_BYTES // max(sample, 1)))


def _check_samples(outputs: Mapping[str, Array], count: int, size: int, file: str) -> None:
    """Raise unless axis 0 of every output is the sample."""
    for name, array in outputs.items():
        if not array.ndim or len(array) != count:
            fact = f"its output {name} has no axis of samples, so that batches cannot be put together"
            raise UserError(fact, where=file, fix=f"Give at most {size} samples at a time")
