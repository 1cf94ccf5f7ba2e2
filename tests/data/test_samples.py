"""Samples in memory become batches in a reproducible order; what a model does not take is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from smartc.core.errors import UserError
from smartc.data.batch import Batch, Samples, shuffled_places
from smartc.data.samples import load_samples
from smartc.frontend.capture import trace
from tests.support.sample_networks import Nested, fixed_batch, images, refused, words

IMAGES = images()
WORDS = words()
TAKES = "the model takes x: float32 Nx3x4x4"


def _firsts(batches: Iterator[Batch]) -> list[list[int]]:
    """Return what tells the samples of each batch apart."""
    return [batch.inputs[0].flatten(1)[:, 0].int().tolist() for batch in batches]


def _numbered(count: int) -> Tensor:
    """Return images of which each holds its own number."""
    return torch.arange(float(count)).reshape(count, 1, 1, 1).expand(count, 3, 4, 4)


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 2**40), st.integers(0, 40))
@settings(max_examples=80, deadline=None)
def test_a_later_start_continues_the_same_order(count: int, size: int, seed: int, start: int) -> None:
    size = min(size, count)
    whole = [places.tolist() for places in islice(shuffled_places(count, size, seed, 0), start + 7)]
    assert [places.tolist() for places in islice(shuffled_places(count, size, seed, start), 7)] == whole[start:]
    steps = count // size
    for epoch in range(len(whole) // steps):
        seen = [place for places in whole[epoch * steps : (epoch + 1) * steps] for place in places]
        assert len(set(seen)) == len(seen) == steps * size


def test_every_epoch_and_every_seed_has_an_order_of_its_own() -> None:
    samples = load_samples(_numbered(50), IMAGES)
    orders = [_firsts(islice(samples.shuffled(25, seed), 4)) for seed in (0, 1, -1)]
    assert orders[0] == _firsts(islice(samples.shuffled(25, 0), 4))
    assert len({str(order[:2]) for order in orders} | {str(order[2:]) for order in orders}) == 6


def test_in_order() -> None:
    samples = load_samples(_numbered(7), IMAGES)
    assert (samples.count, samples.labelled, samples.source) == (7, False, "the data given")
    assert _firsts(samples.in_order(3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert _firsts(samples.in_order(3, limit=5)) == [[0, 1, 2], [3, 4]]
    assert _firsts(samples.in_order(3, limit=0)) == []
    assert load_samples(samples, IMAGES) is samples
    assert isinstance(samples, Samples)


def test_fewer_samples_than_a_batch() -> None:
    samples = load_samples(_numbered(3), IMAGES)
    assert [sorted(batch) for batch in _firsts(islice(samples.shuffled(8, 0), 2))] == [[0, 1, 2]] * 2


def test_a_fixed_batch_is_filled() -> None:
    samples = load_samples((_numbered(3), torch.arange(3)), fixed_batch(4))
    batch = next(samples.shuffled(64, 0))
    assert (sorted(_firsts(iter([batch]))[0][:3]), batch.repeated) == ([0, 1, 2], 1)
    (batch,) = samples.in_order(2)
    assert (_firsts(iter([batch])), batch.repeated) == ([[0, 1, 2, 2]], 1)
    assert batch.labels is not None
    assert batch.labels.tolist() == [0, 1, 2, 2]
    ten = load_samples(_numbered(10), fixed_batch(4))
    assert [(len(b), b.repeated) for b in ten.in_order(64)] == [(4, 0), (4, 0), (4, 2)]
    assert all(len(b) == 4 and not b.repeated for b in islice(ten.shuffled(64, 0), 5))


def test_types() -> None:
    pixels = torch.randint(256, (6, 3, 4, 4), dtype=torch.uint8)
    (batch,) = load_samples(pixels, IMAGES).in_order(6)
    assert torch.equal(batch.inputs[0], pixels.float() / 255)
    (batch,) = load_samples(pixels, IMAGES, "half").in_order(6)
    assert torch.equal(batch.inputs[0], (pixels.float() / 255 - 0.5) / 0.5)
    (batch,) = load_samples(pixels, images(dtype=torch.float64), "unit").in_order(6)
    assert torch.equal(batch.inputs[0], pixels.double() / 255)
    for given_type in (np.float64, np.float16, np.dtype(">f4")):
        numbers = np.random.default_rng(0).normal(size=(6, 3, 4, 4)).astype(given_type)
        (batch,) = load_samples(numbers, IMAGES).in_order(6)
        assert torch.equal(batch.inputs[0], torch.from_numpy(numbers.astype(np.float32)))


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (torch.arange(6, dtype=torch.uint8), torch.int64),
        (np.arange(6, dtype=np.uint16), torch.int64),
        ([0, 1, 2, 3, 4, 5], torch.int64),
        (torch.rand(6, 5), torch.float32),
        (torch.rand(6) > 0.5, torch.bool),
        (torch.zeros(6, 4, 4, dtype=torch.int32), torch.int64),
    ],
)
def test_labels_of_any_kind(labels: Any, kind: torch.dtype) -> None:
    for data in (
        (_numbered(6), labels),
        ({"x": _numbered(6)}, labels),
        {"labels": labels, "x": _numbered(6)},
        {"y": labels, "anything": _numbered(6)},
        [(_numbered(6), labels)],
    ):
        samples = load_samples(data, IMAGES)
        batch = next(samples.shuffled(3, 5))
        assert samples.labelled
        assert batch.labels is not None
        assert batch.labels.dtype == kind
        places = batch.inputs[0][:, 0, 0, 0].long()
        assert torch.equal(batch.labels, torch.as_tensor(np.asarray(labels)).to(kind)[places])


def test_several_inputs_by_name_and_by_place() -> None:
    ids, mask = torch.randint(11, (6, 5)), torch.randint(2, (6, 5))
    for data in (
        {"attention_mask": mask.bool(), "input_ids": ids.int(), "labels": torch.arange(6)},
        ({"attention_mask": mask, "input_ids": ids}, torch.arange(6)),
        (ids, mask, torch.arange(6)),
        ((ids, mask), torch.arange(6)),
        [{"attention_mask": mask, "input_ids": ids, "y": torch.arange(6)}],
    ):
        (batch,) = load_samples(data, WORDS).in_order(6)
        assert batch.labels is not None
        assert batch.labels.tolist() == list(range(6))
        assert [value.dtype for value in batch.inputs] == [torch.int64, torch.int64]
        assert torch.equal(batch.inputs[0], ids)
        assert torch.equal(batch.inputs[1], mask)
        assert WORDS.run(batch.inputs).shape == (6, 4)


def test_nested_arguments_and_values_that_are_no_tensors() -> None:
    model = trace(Nested(), ({"left": torch.zeros(2, 2), "right": torch.zeros(2, 2)}, 0.5))
    left, right = torch.rand(4, 2), torch.rand(4, 2)
    pair = {"right": right, "left": left}
    for data in [(pair, 0.5), [((pair, 0.5), torch.arange(4))], [(pair, 0.5, torch.arange(4))]]:
        (batch,) = load_samples(data, model).in_order(4)
        assert torch.equal(model.run(batch.inputs), left - right * 0.5)


def test_shares_of_a_batch() -> None:
    (batch,) = load_samples((_numbered(5), torch.arange(5)), fixed_batch(8)).in_order(8)
    shares = [batch.share(rank, 4) for rank in range(4)]
    assert _firsts(iter(shares)) == [[0, 1], [2, 3], [4, 4], [4, 4]]
    assert [share.repeated for share in shares] == [0, 0, 1, 2]
    assert [None if s.labels is None else s.labels.tolist() for s in shares] == [[0, 1], [2, 3], [4, 4], [4, 4]]
    assert _firsts(iter([batch.to("cpu")])) == _firsts(iter([batch]))
    with pytest.raises(UserError) as caught:
        batch.share(0, 3)
    assert str(caught.value) == (
        "data: a batch of 8 samples is no multiple of 3 processes. Give a batch size that is, and at least 3 samples."
    )


def _with(value: float) -> Tensor:
    """Return images of which one holds a value."""
    return torch.zeros(3, 3, 4, 4).index_put((torch.tensor(1),), torch.tensor(float(value)))


OUT = "Leave these inputs out."
NAMES = "Name the arrays after the model's inputs, the labels `labels`, and leave out the rest."
COUNT = "Give an array per input, and after them labels if there are any."


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (torch.zeros(3, 3, 4), f"x has the shape 3x3x4 and {TAKES}. Reshape it."),
        (torch.zeros(3, 3, 4, 5), f"x has the shape 3x3x4x5 and {TAKES}. Reshape it."),
        (torch.zeros(3, 4, 4, 3), f"x has the shape 3x4x4x3 and {TAKES}. Move its axes into that order."),
        (torch.tensor(1.0), f"x has the shape scalar and {TAKES}. Reshape it."),
        (
            torch.zeros(3, 3, 4, 4, dtype=torch.int64),
            f"x is int64 and {TAKES}. Give floating-point numbers, or uint8 for 0 to 1 in steps of 1/255.",
        ),
        (torch.zeros(3, 3, 4, 4, dtype=torch.complex64), "x is complex. Store it as plain numbers."),
        (torch.zeros(3, 3, 4, 4).to_sparse(), "x is sparse. Store it as plain numbers."),
        (torch.zeros(3, 3, 4, 4).to(torch.float8_e5m2), "x is of the type float8_e5m2. Store it as plain numbers."),
        (np.full((3, 3, 4, 4), "a"), "x is <U1. Store it as numbers."),
        (torch.zeros(0, 3, 4, 4), "it holds no inputs. Give at least one."),
        (_with(math.nan), f"1 of 3 inputs hold values that are not finite numbers. {OUT}"),
        (_with(-math.inf), f"1 of 3 inputs hold values that are not finite numbers. {OUT}"),
        (_with(1.0).double() * 1e300, f"1 of 3 inputs hold values that are not finite numbers. {OUT}"),
        (
            (_with(0), torch.arange(4)),
            "labels has the shape 4 and there are 3 samples of x. Give one entry per sample, along axis 0.",
        ),
        (
            (_with(0), torch.tensor(4)),
            "labels has the shape scalar and there are 3 samples of x. Give one entry per sample, along axis 0.",
        ),
        ((_with(0), ["cat", "dog", "cat"]), "labels is <U3. Store it as numbers."),
        (
            (_with(0), torch.tensor([0.0, math.nan, math.inf])),
            "2 of 3 labels hold values that are not finite numbers. Leave these labels out.",
        ),
        ({"x": _with(0), "z": torch.arange(3)}, f"it holds x, z and {TAKES}. {NAMES}"),
        ({}, f"it holds nothing and {TAKES}. {NAMES}"),
    ],
)
def test_what_the_model_does_not_take(data: Any, message: str) -> None:
    assert refused(data, IMAGES) == f"data: {message}"
    if isinstance(data, Tensor):
        assert refused([_with(0), data], IMAGES) == f"data, batch 1: {message}"


IDS = "input_ids: int64 Nx5, attention_mask: int64 Nx5"
_IDS = torch.zeros(3, 5, dtype=torch.int64)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_IDS, f"it has 1 array and the model takes {IDS}. {COUNT}"),
        ({"input_ids": _IDS}, f"it holds input_ids and the model takes {IDS}. {NAMES}"),
        (
            {"input_ids": _IDS, "attention_mask": _IDS, "token_type_ids": _IDS},
            f"it holds input_ids, attention_mask, token_type_ids and the model takes {IDS}. {NAMES}",
        ),
        ((_IDS, _IDS.float()), "attention_mask is float32 and the model takes {}. Give whole numbers."),
        (
            (_IDS, _IDS[:2]),
            "attention_mask has the shape 2x5 and there are 3 samples of input_ids. "
            "Give one entry per sample, along axis 0.",
        ),
        (
            (_IDS + 11, _IDS),
            "input_ids goes from 11 to 11 and the model's table has 11 rows. Give indices from 0 to 10.",
        ),
        (
            (_IDS - 1, _IDS),
            "input_ids goes from -1 to -1 and the model's table has 11 rows. Give indices from 0 to 10.",
        ),
    ],
)
def test_what_a_model_of_words_does_not_take(data: Any, message: str) -> None:
    assert refused(data, WORDS) == f"data: {message.format('attention_mask: int64 Nx5')}"


def test_what_is_no_data() -> None:
    fix = "Give tensors, an iterable of batches, a function that yields them, or a file's path."
    assert refused(3, IMAGES) == f"data: int holds no inputs. {fix}"
    assert refused(nn.ReLU(), IMAGES) == f"data: ReLU holds no inputs. {fix}"
    assert refused([3], IMAGES) == f"data, batch 0: it has 0 arrays and {TAKES}. {COUNT}"


def test_preprocess_needs_uint8() -> None:
    assert refused(_with(0), IMAGES, "imagenet") == (
        "preprocess='imagenet': it is for images and uint8 arrays, and the data are float32. Leave preprocess=... out."
    )
    assert refused(torch.zeros(3, 1, 4, 4, dtype=torch.uint8), images(channels=1), "imagenet") == (
        "preprocess='imagenet': it has 3 means and the model takes x: float32 Nx1x4x4. "
        "Give one number per channel, or one for all."
    )


def test_a_model_without_an_axis_of_samples() -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor, scale: Tensor) -> Tensor:
            return x * scale

    model = trace(Scaled(), (torch.zeros(2, 3), torch.tensor(1.0)))
    assert refused((torch.zeros(2, 3), torch.tensor(1.0)), model) == (
        "Scaled: it takes x: float32 2x3, scale: float32 scalar, and data are cut into samples along axis 0 of "
        "every input. Export the model with axis 0 of every input as the batch."
    )


@pytest.mark.parametrize(
    ("special", "what"),
    [
        (lambda: torch.zeros(4, 3, 4, 4, device="meta"), "x is on the meta device"),
        (lambda: torch.nested.nested_tensor([torch.zeros(3, 4, 4), torch.zeros(3, 4, 4)]), "x is nested"),
        (lambda: torch.zeros(4, 3, 4, 4).to_sparse(), "x is sparse"),
    ],
)
def test_tensors_without_numbers_are_refused_from_every_source(special: Callable[[], torch.Tensor], what: str) -> None:
    model = images()
    for data, where in (
        (special(), "data"),
        ([special()], "data, batch 0"),
        (lambda: iter([special()]), "data, batch 0"),
    ):
        with pytest.raises(UserError) as caught:
            load_samples(data, model)
        assert str(caught.value) == f"{where}: {what}. Store it as plain numbers."
