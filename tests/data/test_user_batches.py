"""Batches of a user's own come as they were made, the same ones in every run, or say what is wrong with them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from itertools import count as counting
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from smartc.core.errors import UserError
from smartc.data import user_batches
from smartc.data.arrays import Arrays
from smartc.data.samples import Samples, load_samples
from smartc.data.user_batches import rebatched
from tests.support.sample_networks import fixed_batch, images, refused

IMAGES = images()
HERE = "tests.data.test_user_batches"


def noisy() -> Iterator[tuple[Tensor, Tensor]]:
    """Yield 23 samples in batches of 5, shuffled and disturbed by every global generator."""
    order = torch.randperm(23)
    for places in order.split(5):
        shift = random.random() + float(np.random.rand())
        yield _numbered(23)[places] + shift, places


def listed() -> list[Tensor]:
    """Return shuffled batches, drawn before the first is asked for."""
    return list(_numbered(24)[torch.randperm(24)].split(6))


def mostly() -> Iterator[Tensor]:
    """Yield two batches that fit and one that does not."""
    yield _numbered(4)
    yield _numbered(4)
    yield _numbered(4) * torch.nan


def endless() -> Iterator[Tensor]:
    """Yield batches without end."""
    return (_numbered(4) for _ in counting())


def mixed() -> Iterator[Any]:
    """Yield batches of several kinds."""
    yield _numbered(4)
    yield _numbered(4), torch.arange(4)


def one() -> Tensor:
    """Return a batch instead of yielding it."""
    return _numbered(4)


def failing() -> Iterator[Tensor]:
    """Fail after a batch."""
    yield _numbered(4)
    raise OSError("disk gone\nfor good")


def broken() -> Iterator[Tensor]:
    """Fail at once."""
    raise KeyError("image")


def empty() -> Iterable[Tensor]:
    """Yield nothing."""
    return []


def number() -> int:
    """Return no batches."""
    return 3


def needy(path: str) -> Iterable[Tensor]:
    """Need an argument."""
    return [_numbered(len(path))]


class Single(Dataset[tuple[Tensor, int]]):
    """Hold samples one by one."""

    def __len__(self) -> int:
        """Return the number of samples."""
        return 70

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        """Return an image and its number."""
        return _numbered(70)[place], place


class Streamed(IterableDataset[Tensor]):
    """Yield samples one by one."""

    def __iter__(self) -> Iterator[Tensor]:
        """Yield images."""
        return iter(_numbered(70))


def _numbered(count: int) -> Tensor:
    """Return images of which each holds its own number."""
    return torch.arange(float(count)).reshape(count, 1, 1, 1).expand(count, 3, 4, 4).contiguous()


def _firsts(samples: Samples, size: int, steps: int, start: int = 0) -> list[list[float]]:
    """Return what tells the samples of the next batches apart."""
    return [batch.inputs[0][:, 0, 0, 0].tolist() for batch in islice(samples.shuffled(size, 7, start), steps)]


@given(st.lists(st.integers(1, 9), max_size=12), st.integers(1, 10))
@settings(max_examples=100, deadline=None)
def test_batches_of_any_size_become_batches_of_one(sizes: list[int], size: int) -> None:
    values = torch.arange(sum(sizes))
    pieces = [Arrays((part,), part * 2) for part in values.split(sizes)] if sizes else []
    found = list(rebatched(pieces, size))
    assert [len(part) for part in found] == [len(part) for part in values.split(size)] * bool(sizes)
    assert [x for part in found for x in part.tensors[0].tolist()] == values.tolist()
    assert all(part.labels is not None and torch.equal(part.labels, part.tensors[0] * 2) for part in found)


def test_a_function_is_asked_anew_in_every_epoch_and_repeats_itself_in_every_run() -> None:
    samples = load_samples(f"{HERE}:noisy", IMAGES)
    assert (samples.source, samples.count, samples.labelled) == (f"{HERE}:noisy", None, True)
    before = random.getstate(), torch.get_rng_state(), np.random.get_state()[1]
    whole = _firsts(samples, 6, 10)
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert np.array_equal(np.random.get_state()[1], before[2])
    assert [len(batch) for batch in whole] == [6] * 10
    assert whole[:3] != whole[3:6]
    assert len({round(value % 1, 3) for value in chain(*whole)}) > 10  # a shift of its own for each batch
    random.seed(1)
    torch.manual_seed(1)
    assert _firsts(load_samples(noisy, IMAGES), 6, 6, start=4) == whole[4:]
    labels = [batch.labels for batch in islice(samples.shuffled(6, 7), 3)]
    assert len({place for part in labels if part is not None for place in part.tolist()}) == 18


def test_a_function_may_return_a_list() -> None:
    torch.manual_seed(0)
    first = _firsts(load_samples(listed, IMAGES), 6, 8)
    torch.manual_seed(1)
    assert _firsts(load_samples(listed, IMAGES), 6, 8) == first
    assert first[:4] != first[4:]


def test_a_stream_in_order() -> None:
    samples = load_samples(noisy, IMAGES)
    assert [len(batch) for batch in samples.in_order(6)] == [6, 6, 6, 5]
    assert [len(batch) for batch in samples.in_order(6, limit=9)] == [6, 3]
    assert [len(batch) for batch in samples.in_order(6, limit=12)] == [6, 6]
    assert list(samples.in_order(6, limit=0)) == []
    assert sum(map(len, load_samples(endless, IMAGES).in_order(6, limit=99))) == 99
    assert [len(batch) for batch in load_samples(one, IMAGES).in_order(6)] == [4]


def test_a_stream_for_a_fixed_batch() -> None:
    samples = load_samples(noisy, fixed_batch(4))
    assert [(len(b), b.repeated) for b in samples.in_order(64)] == [(4, 0)] * 5 + [(4, 1)]
    assert [b.repeated for b in islice(samples.shuffled(64, 0), 11)] == [0] * 11
    few = load_samples(one, fixed_batch(5))
    assert [(len(b), b.repeated) for b in islice(few.shuffled(64, 0), 2)] == [(5, 1)] * 2
    assert [len(b) for b in islice(load_samples(one, IMAGES).shuffled(64, 0), 2)] == [4, 4]


def _loader() -> DataLoader[Any]:
    """Return a loader that shuffles."""
    return DataLoader(TensorDataset(_numbered(70), torch.arange(70)), batch_size=16, shuffle=True)


@pytest.mark.parametrize(
    ("make", "labelled"),
    [
        (lambda: list(_numbered(70).split(9)), False),
        (lambda: iter(_numbered(70).split(9)), False),
        (lambda: tuple(_numbered(70).split(9)), False),
        (Single, True),
        (Streamed, False),
        (lambda: TensorDataset(_numbered(70), torch.arange(70)), True),
        (_loader, True),
        (lambda: iter(_loader()), True),
    ],
)
def test_what_yields_batches_is_kept_in_memory(make: Callable[[], Any], labelled: bool) -> None:
    samples = load_samples(make(), IMAGES)
    assert (samples.source, samples.count, samples.labelled) == ("the data given", 70, labelled)
    (batch,) = samples.in_order(70)
    places = batch.inputs[0][:, 0, 0, 0]
    assert sorted(places.tolist()) == list(range(70))
    if batch.labels is not None:
        assert torch.equal(batch.labels, places.long())


def test_a_loader_is_read_in_the_same_order_in_every_process() -> None:
    first = load_samples(_loader(), IMAGES)
    torch.manual_seed(99)
    assert _firsts(load_samples(_loader(), IMAGES), 16, 3) == _firsts(first, 16, 3)


def test_more_than_fits_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_batches, "MOST_BYTES", 40 * 3 * 4 * 4 * 4)
    batches = list(_numbered(70).split(9))
    streamed = load_samples(batches, IMAGES)
    assert streamed.count is None
    assert [len(batch) for batch in streamed.in_order(32)] == [32, 32, 6]
    cut = load_samples(iter(batches), IMAGES)
    assert (cut.source, cut.count) == ("the data given (its first 36 samples)", 36)
    assert load_samples(iter(batches[:4]), IMAGES).source == "the data given"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "broken",
            "it fails: KeyError: 'image'. Give an iterable of batches, or a function without arguments that "
            "yields them.",
        ),
        (
            "needy",
            "it fails: TypeError: needy() missing 1 required positional argument: 'path'. Give an iterable of "
            "batches, or a function without arguments that yields them.",
        ),
        ("empty", "it yields no batches. Yield at least one."),
        ("number", "it returns int and must yield batches. Yield tensors, tuples or dicts of them."),
        ("nowhere", f"module {HERE} has no nowhere. Check the name."),
    ],
)
def test_functions_that_yield_nothing(name: str, message: str) -> None:
    assert refused(f"{HERE}:{name}", IMAGES) == f"data='{HERE}:{name}': {message}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "mostly",
            ", batch 2: 4 of 4 inputs hold values that are not finite numbers. Leave these inputs out.",
        ),
        (
            "mixed",
            ", batch 1: it holds float32 3x4x4, labels int64 and the first one float32 3x4x4. "
            "Give the same kinds in every batch.",
        ),
        (
            "failing",
            ": it fails: OSError: disk gone. Give an iterable of batches, or a function without arguments that "
            "yields them.",
        ),
    ],
)
def test_later_batches_are_checked_as_they_come(name: str, message: str) -> None:
    samples = load_samples(f"{HERE}:{name}", IMAGES)
    with pytest.raises(UserError) as caught:
        list(samples.in_order(4))
    assert str(caught.value) == f"data='{HERE}:{name}'{message}"
    assert refused(globals()[name](), IMAGES) == f"data{message}"
