"""Samples held as arrays, and how they become what a model takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from smartc.core.errors import UserError
from smartc.data.batch import Batch, filled_places, shuffled_places
from smartc.data.labelled import dtype_text
from smartc.data.preprocess import Preprocess
from smartc.frontend.capture import batch_size
from smartc.ir.traced_model import TracedModel


@dataclass(frozen=True, eq=False)
class Arrays:
    """Samples as they are stored; axis 0 of every tensor is the sample.

    Attributes:
        tensors: One per tensor input of a model, in its order; uint8 may stand for 0 to 1.
        labels: None where there are none.
    """

    tensors: tuple[torch.Tensor, ...]
    labels: torch.Tensor | None = None

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.tensors[0])

    @property
    def all(self) -> tuple[torch.Tensor, ...]:
        """Return the tensors, and the labels if there are any."""
        return self.tensors if self.labels is None else (*self.tensors, self.labels)

    @property
    def bytes(self) -> int:
        """Return the memory that they take."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.all)

    @property
    def kinds(self) -> str:
        """Return the types and shapes that two sets must share to be joined: ``uint8 3x8x8, labels int64``."""
        texts = [" ".join((dtype_text(t), "x".join(map(str, t.shape[1:])))).strip() for t in self.all]
        return ", ".join(texts if self.labels is None else (*texts[:-1], f"labels {texts[-1]}"))

    def __getitem__(self, places: slice | torch.Tensor) -> Arrays:
        """Return some of the samples."""
        parts = [t[places] if isinstance(places, slice) else t.index_select(0, places) for t in self.all]
        return self._like(parts)

    def joined(self, others: Sequence[Arrays]) -> Arrays:
        """Return these samples followed by others of the same kinds."""
        return self._like([torch.cat(parts) for parts in zip(self.all, *(o.all for o in others), strict=True)])

    def _like(self, parts: Sequence[torch.Tensor]) -> Arrays:
        """Return arrays in the place of these."""
        count = len(self.tensors)
        return Arrays(tuple(parts[:count]), None if self.labels is None else parts[count])


@dataclass(frozen=True, eq=False)
class InputLayout:
    """How samples become the inputs of a model.

    Attributes:
        model: The model that takes them.
        fixed: The size of every batch where the model fixes it.
        preprocess: How uint8 is normalised; None for 0 to 1.
    """

    model: TracedModel
    fixed: int | None
    preprocess: Preprocess | None

    def size(self, asked: int, count: int | None = None) -> int:
        """Return the size of a batch: the model's own, or the asked one but not more than there are samples."""
        return self.fixed or min(asked, asked if count is None else count)

    def batch(self, arrays: Arrays, repeated: int = 0) -> Batch:
        """Return stored samples in the types that the model takes, whole-number labels as int64."""
        tensors = iter(self._input(place, tensor) for place, tensor in enumerate(arrays.tensors))
        inputs = tuple(next(tensors) if torch.is_tensor(value) else value for value in self.model.examples)
        labels = arrays.labels
        if labels is not None and not labels.is_floating_point() and labels.dtype != torch.bool:
            labels = labels.long()
        return Batch(inputs, labels, repeated)

    def filled(self, arrays: Arrays) -> Batch:
        """Return a batch of a few samples, of which the last is repeated where the model fixes the size."""
        if self.fixed is None or self.fixed == len(arrays):
            return self.batch(arrays)
        return self.batch(arrays[filled_places(len(arrays), self.fixed)], self.fixed - len(arrays))

    def scales(self, place: int, tensor: torch.Tensor) -> bool:
        """Return whether an input takes floats and is given uint8, which stands for 0 to 1."""
        return tensor.dtype == torch.uint8 and self.model.inputs[place].dtype.is_floating_point

    def _input(self, place: int, tensor: torch.Tensor) -> Any:
        """Return one input of a batch."""
        spec = self.model.inputs[place]
        if not self.scales(place, tensor):
            return tensor.to(spec.dtype)
        pixels = tensor.to(spec.dtype).div_(255)
        return pixels if self.preprocess is None else self.preprocess.apply_(pixels, spec)


@dataclass(frozen=True, eq=False)
class InMemory:
    """Samples that are all in memory.

    Attributes:
        source: What to call them in a report.
        arrays: The samples, checked.
        layout: How they become inputs.
    """

    source: str
    arrays: Arrays
    layout: InputLayout

    @property
    def count(self) -> int:
        """Return the number of samples."""
        return len(self.arrays)

    @property
    def labelled(self) -> bool:
        """Return whether there are labels."""
        return self.arrays.labels is not None

    def at(self, places: torch.Tensor) -> Arrays:
        """Return the samples at some places."""
        return self.arrays[places]

    def shuffled(self, size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Yield full batches without end, from a new permutation for every epoch."""
        size = self.layout.size(size, self.count)
        for places in shuffled_places(self.count, size, seed, start):
            yield self.layout.batch(self.at(places), max(0, size - self.count))

    def in_order(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        """Yield the samples once, at most ``limit`` of them."""
        size, total = self.layout.size(size), min(self.count, self.count if limit is None else limit)
        for start in range(0, total, size):
            yield self.layout.filled(self.arrays[start : min(start + size, total)])


def input_layout(model: TracedModel, preprocess: Preprocess | None) -> InputLayout:
    """Return the layout that makes samples the inputs of a model.

    Raises:
        UserError: The model has no tensor inputs, or inputs that share no axis of samples.
    """
    takes = ", ".join(map(str, model.inputs)) or "no tensors"
    fixed = None if model.dynamic_batch else batch_size(model.examples)
    free = bool(model.inputs) and all(spec.shape and spec.shape[0] is None for spec in model.inputs)
    if not free and (fixed is None or fixed == 0):
        fact = f"it takes {takes}, and data are cut into samples along axis 0 of every input"
        raise UserError(fact, where=model.name, fix="Export the model with axis 0 of every input as the batch")
    return InputLayout(model, fixed, preprocess)
