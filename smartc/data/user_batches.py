"""Batches that a user's object or function yields: gathered in memory where they fit, else streamed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count as counting
from itertools import islice
from typing import Any

from torch.utils.data import Dataset, IterableDataset, default_collate

from smartc.core.errors import OWN_CODE_FAILURES, Argument, SmartcError, UserError, first_line
from smartc.data.arrays import Arrays, InMemory, InputLayout
from smartc.data.batch import Batch, Samples
from smartc.data.check_arrays import checked
from smartc.data.match_inputs import is_batch, match_inputs
from smartc.data.own_randomness import OwnRandomness

log = logging.getLogger(__name__)
# Bytes of batches that are kept in memory; where there are more, all are asked for anew in every epoch.
MOST_BYTES = 2**30
_COLLATED = 64
_END = object()


@dataclass(frozen=True, eq=False)
class Opening:
    """What yields batches, each time anew.

    Attributes:
        open: Returns the batches of an epoch.
        layout: What they must fit.
        where: The place for errors.
        source: What to call them in a report.
    """

    open: Callable[[], Any]
    layout: InputLayout
    where: str | Argument
    source: str

    def epoch(self, seed: int, number: int) -> Iterator[Arrays]:
        """Yield the checked batches of an epoch; the user's code draws random numbers of its own.

        Raises:
            UserError: The user's code fails, yields nothing, or yields what the model does not take.
        """
        apart = OwnRandomness(seed, number)
        with apart():
            batches = self._guarded(self._opened)
        first = ""
        for place in counting():
            with apart():
                batch = self._guarded(lambda: next(batches, _END))
            if batch is _END:
                break
            where = (self.where, f", batch {place}")
            arrays = checked(match_inputs(batch, self.layout.model, where), self.layout, where)
            first = first or arrays.kinds
            if arrays.kinds != first:
                fact = f"it holds {arrays.kinds} and the first one {first}"
                raise UserError(fact, where=where, fix="Give the same kinds in every batch")
            yield arrays
        if not first:
            raise UserError("it yields no batches", where=self.where, fix="Yield at least one")

    def _opened(self) -> Iterator[Any]:
        """Return an iterator of batches from whatever the user's code returns."""
        found = self.open()
        if isinstance(found, Dataset):
            return _collated(found)
        if is_batch(found, self.layout.model):
            return iter([found])
        if isinstance(found, str) or not isinstance(found, Iterable):
            fact = f"it returns {type(found).__name__} and must yield batches"
            raise UserError(fact, where=self.where, fix="Yield tensors, tuples or dicts of them")
        return iter(found)

    def _guarded(self, call: Callable[[], Any]) -> Any:
        """Return the result of a call into the user's code; an error says where it failed."""
        try:
            return call()
        except SmartcError:
            raise
        except OWN_CODE_FAILURES as error:
            fact = f"it fails: {type(error).__name__}: {first_line(error)}"
            fix = "Give an iterable of batches, or a function without arguments that yields them"
            raise UserError(fact, where=self.where, fix=fix) from error


@dataclass(frozen=True, eq=False)
class UserBatches:
    """Samples that are asked for anew in every epoch, in the order in which they come.

    What the user shuffles stays shuffled: each epoch sees other random numbers, the same ones in every
    run of a seed.  The end of an epoch that fills no batch is left out.
    """

    opening: Opening
    labelled: bool
    count: None = field(default=None, init=False)

    @property
    def source(self) -> str:
        """Return the name of the batches in a report."""
        return self.opening.source

    def shuffled(self, size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Yield full batches without end; those before the start are asked for and passed over."""
        yield from islice(self._endless(size, seed), start, None)

    def _endless(self, size: int, seed: int) -> Iterator[Batch]:
        """Yield full batches, one epoch after the other."""
        layout = self.opening.layout
        size = layout.size(size)
        for number in counting():
            for place, arrays in enumerate(rebatched(self.opening.epoch(seed, number), size)):
                if len(arrays) == size or not place:
                    yield layout.filled(arrays)

    def in_order(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        """Yield one epoch, at most ``limit`` samples of it."""
        layout, left = self.opening.layout, limit
        for arrays in rebatched(self.opening.epoch(0, 0), layout.size(size)):
            taken = arrays if left is None or left >= len(arrays) else arrays[:left]
            if len(taken):
                yield layout.filled(taken)
            left = None if left is None else left - len(taken)
            if left == 0:
                return


def rebatched(pieces: Iterable[Arrays], size: int) -> Iterator[Arrays]:
    """Yield the samples of batches of any size in batches of one size; the last may be smaller."""
    held: list[Arrays] = []
    for piece in pieces:
        held.append(piece)
        if sum(map(len, held)) < size:
            continue
        whole = held[0].joined(held[1:]) if len(held) > 1 else piece
        full = len(whole) - len(whole) % size
        yield from (whole[start : start + size] for start in range(0, full, size))
        held = [whole[full:]] if full < len(whole) else []
    if held:
        yield held[0].joined(held[1:])


def streamed(opening: Opening) -> UserBatches:
    """Return samples of a stream whose first batch fits the model.

    Raises:
        UserError: It does not.
    """
    return UserBatches(opening, next(opening.epoch(0, 0)).labels is not None)


def gathered(opening: Opening, once: bool) -> Samples:
    """Return samples in memory where they fit it, else a stream.

    Args:
        opening: What yields the batches.
        once: It can be read only once, so that what does not fit is left out.

    Raises:
        UserError: A batch does not fit the model, or there is none.
    """
    pieces: list[Arrays] = []
    held, source = 0, opening.source
    for piece in opening.epoch(0, 0):
        held += piece.bytes
        if pieces and held > MOST_BYTES:
            if not once:
                return UserBatches(opening, piece.labels is not None)
            source = f"{source} (its first {sum(map(len, pieces))} samples)"
            log.warning("%s: it goes on beyond %d bytes, and the rest is left out", opening.where, MOST_BYTES)
            break
        pieces.append(piece)
    return InMemory(source, pieces[0].joined(pieces[1:]), opening.layout)


def _collated(dataset: Any) -> Iterator[Any]:
    """Yield batches of a data set's samples."""
    single = isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__")
    samples = iter(dataset) if single else (dataset[place] for place in range(len(dataset)))
    while chunk := list(islice(samples, _COLLATED)):
        yield default_collate(chunk)
