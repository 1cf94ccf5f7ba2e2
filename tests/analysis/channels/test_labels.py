"""Labels travel as the elements they stand for: each operation on labels against the same on real tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx

from smartc.analysis.channels.labels import Factor, IntArray, LabelBook, Labels, Site, align
from smartc.analysis.channels.reshape_labels import reshape

checked = settings(max_examples=300, deadline=None, derandomize=True)


def site_of(shape: Sequence[int], book: LabelBook | None = None) -> Site:
    """Return a place where a rule could be applied; the graph itself plays no part."""
    return Site(fx.Graph().placeholder("x"), tuple(shape), book or LabelBook())


def groups_of(book: LabelBook) -> IntArray:
    """Return the smallest label that each label is tied to."""
    group = np.arange(book.size)
    for _ in range(book.size):
        before = group.copy()
        for left, right in book.ties:
            for one, other in ((left, right), (right, left)):
                np.minimum.at(group, one, group[other])
        if np.array_equal(before, group):
            break
    return group


def frozen_labels(book: LabelBook) -> set[int]:
    """Return the labels that must survive, as groups."""
    group = groups_of(book)
    return {int(group[label]) for labels, _ in book.frozen for label in labels}


def alive(labels: Labels, kept: set[int], group: IntArray) -> IntArray:
    """Return which elements of a tensor survive: those whose label of every factor does."""
    survives = np.ones(labels.shape, dtype=bool)
    for factor in labels.factors:
        mask = np.isin(group[factor.labels], sorted(kept))
        shape = [1] * len(labels.shape)
        for axis, size in zip(factor.axes, factor.labels.shape, strict=True):
            shape[axis] = size
        survives &= mask.reshape(shape)
    return survives


@dataclass(frozen=True)
class Shapes:
    """Shapes of as many elements each, and an axis of the first."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    last: tuple[int, ...]
    axis: int


@st.composite
def shapes(draw: st.DrawFn) -> Shapes:
    """Return shapes whose sizes are products of the same primes; the last has them in another order."""
    primes = draw(st.lists(st.sampled_from((2, 3, 5)), min_size=1, max_size=5))

    def shape(factors: list[int]) -> tuple[int, ...]:
        cuts = sorted(draw(st.lists(st.integers(0, len(factors)), max_size=3)))
        bounds = zip([0, *cuts], [*cuts, len(factors)], strict=True)
        return tuple(math.prod(factors[begin:end]) for begin, end in bounds)

    before, after = shape(primes), shape(primes)
    return Shapes(before, after, shape(draw(st.permutations(primes))), draw(st.integers(0, len(before) - 1)))


def settled(book: LabelBook) -> LabelBook:
    """Let merged labels follow their first option."""
    for labels, options, _ in book.merges:
        book.tie(labels, options[0])
        for other in options[1:]:
            book.freeze(np.asarray(other), "is not the first")
    return book


def chosen(book: LabelBook, seed: int) -> set[int]:
    """Return the frozen labels and some of the others."""
    return {label for label in range(book.size) if (seed >> label % 30) & 1} | frozen_labels(book)


@checked
@given(shapes(), st.integers(0, 2**30))
def test_reshape_moves_the_labels_of_an_axis_as_it_moves_elements(case: Shapes, seed: int) -> None:
    site = site_of(case.after)
    x = site.fresh(case.before, [case.axis])
    viewed = reshape(site, x, case.after, (case.before, case.after))
    kept, group = chosen(site.book, seed), np.arange(site.book.size)
    assert not site.book.frozen
    assert not site.book.ties
    assert np.array_equal(alive(viewed, kept, group), alive(x, kept, group).reshape(case.after))


@checked
@given(shapes(), st.integers(0, 2**30))
def test_reshape_of_all_axes_moves_what_it_does_not_freeze(case: Shapes, seed: int) -> None:
    site = site_of(case.after)
    x = site.fresh(case.before)
    viewed = reshape(site, x, case.after, (case.before, case.after))
    kept, group = chosen(settled(site.book), seed), groups_of(site.book)
    assert np.array_equal(alive(viewed, kept, group), alive(x, kept, group).reshape(case.after))


@checked
@given(shapes(), st.integers(0, 2**30))
def test_reshape_of_a_split_axis_moves_what_it_does_not_freeze(case: Shapes, seed: int) -> None:
    """A factor over several axes is permuted and viewed again, as in a channel shuffle."""
    site = site_of(case.after)
    x = site.fresh(case.before, [case.axis])
    first = reshape(site, x, case.after, (case.before, case.after))
    order = np.random.default_rng(seed).permutation(len(case.after))
    turned = first.renamed({int(old): new for new, old in enumerate(order)}, [case.after[old] for old in order])
    again = reshape(site, turned, case.last, (turned.shape, case.last))
    kept, group = chosen(site.book, seed), np.arange(site.book.size)
    real = alive(x, kept, group).reshape(case.after).transpose(order).reshape(case.last)
    assert np.array_equal(alive(again, kept, group), real)


@checked
@given(shapes(), st.integers(0, 2**30), st.booleans(), st.booleans())
def test_reshape_of_a_batch_moves_the_labels_of_each_sample(
    case: Shapes, seed: int, joined: bool, parted: bool
) -> None:
    """The batch stands in front, as an axis of its own or multiplied into the first one."""
    batch = 7  # no size has it as a factor
    sides = [(shape, merged and shape) for shape, merged in ((case.before, joined), (case.after, parted))]
    whole = [(batch * s[0], *s[1:]) if merged else (batch, *s) for s, merged in sides]
    single = [s if merged else (1, *s) for s, merged in sides]
    site = site_of(single[1])
    x = site.fresh(single[0])
    viewed = reshape(site, x, single[1], (whole[0], whole[1]))
    kept, group = chosen(settled(site.book), seed), groups_of(site.book)
    old, new = (np.stack([alive(one, kept, group)] * batch) for one in (x, viewed))
    assert np.array_equal(new.reshape(whole[1]), old.reshape(whole[0]).reshape(whole[1]))


@checked
@given(shapes())
def test_reshape_that_moves_the_batch_inwards_freezes_its_channels(case: Shapes) -> None:
    site = site_of((*case.before, 1))
    x = site.fresh((1, *case.before))
    viewed = reshape(site, x, (*case.before, 1), ((7, *case.before), (*case.before, 7)))
    assert not viewed.factors
    assert {int(label) for factor in x.factors for label in factor.labels} == frozen_labels(site.book)


@checked
@given(st.data())
def test_join_keeps_what_broadcasting_keeps_of_each_operand(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple))
    book = LabelBook()
    site = site_of(shape, book)
    operands = []
    for _ in range(data.draw(st.integers(1, 3))):
        rank = data.draw(st.integers(1, len(shape)))
        own = tuple(size if data.draw(st.booleans()) else 1 for size in shape[-rank:])
        labelled = [axis for axis in range(rank) if data.draw(st.booleans())]
        operands.append(site.fresh(own, labelled))
    full = tuple(np.broadcast_shapes(*(operand.shape for operand in operands)))
    site.shape = (1,) * (len(shape) - len(full)) + full
    joined = site.join(*operands)
    group, frozen = groups_of(book), frozen_labels(book)
    seed = data.draw(st.integers(0, 2**30))
    kept = {int(label) for label in np.unique(group) if (seed >> int(label)) & 1} | frozen
    expected = np.ones(site.shape, dtype=bool)
    for operand in operands:
        expected &= alive(align(operand, site.rank), kept, group)
    assert np.array_equal(np.broadcast_to(alive(joined, kept, group), site.shape), expected)


def test_join_ties_equal_axes_and_leaves_a_single_index_alone() -> None:
    site = site_of((2, 3))
    left, right = site.fresh((2, 3)), site.fresh((1, 3))
    joined = site.join(left, right, 7.0)
    assert groups_of(site.book).tolist() == [0, 1, 2, 3, 4, 2, 3, 4]
    assert [factor.axes for factor in joined.factors] == [(0,), (1,)]
    assert site.book.frozen == []


def test_join_freezes_what_meets_a_whole_axis() -> None:
    site = site_of((3,))
    site.book.place = "meets `add` (add), which "
    joined = site.join(site.fresh((3,)), Labels((3,)))
    assert joined.factors == ()
    [(labels, reason)] = site.book.frozen
    assert labels.tolist() == [0, 1, 2]
    assert reason == "meets `add` (add), which also takes a tensor all of whose channels stay"


def test_join_of_two_ways_of_splitting_ties_the_shared_axis() -> None:
    site = site_of((2, 2, 2))
    book = site.book
    left = Labels((2, 2, 2), (Factor((0, 1), book.new(4).reshape(2, 2)),))
    right = Labels((2, 2, 2), (Factor((1, 2), book.new(4).reshape(2, 2)),))
    assert site.join(left, right).along(1) is not None
    assert groups_of(book).tolist() == [0, 1, 0, 1, 0, 0, 1, 1]
    assert not book.frozen


def test_sole_ties_an_axis_along_all_others() -> None:
    site = site_of((2, 3))
    x = Labels((2, 3), (Factor((0, 1), site.book.new(6).reshape(2, 3)),))
    sole = site.sole(x, -1)
    assert sole is not None
    assert sole.tolist() == [0, 1, 2]
    assert groups_of(site.book).tolist() == [0, 1, 2, 0, 1, 2]
    assert site.sole(Labels((2, 3)), 0) is None


def test_uniform_freezes_a_lone_axis_and_ties_a_shared_one() -> None:
    site = site_of((2, 3))
    alone, shared = Factor((0,), site.book.new(2)), Factor((1, 2), site.book.new(6).reshape(3, 2))
    left = site.uniform(Labels((2, 3, 2), (alone, shared)), [0, 2], "mixes all channels")
    assert [(factor.axes, factor.labels.tolist()) for factor in left.factors] == [((1,), [2, 4, 6])]
    assert groups_of(site.book).tolist() == [0, 1, 2, 2, 4, 4, 6, 6]
    assert frozen_labels(site.book) == {0, 1}


@checked
@given(st.permutations(range(4)), st.integers(0, 2**30))
def test_renamed_permutes_as_transposition_does(order: list[int], seed: int) -> None:
    shape = (2, 3, 4, 5)
    site = site_of(shape)
    pair = Factor((0, 2), site.book.new(8).reshape(2, 4))
    x = Labels(shape, (pair, Factor((3,), site.book.new(5))), weight=True)
    turned = x.renamed({old: new for new, old in enumerate(order)}, [shape[old] for old in order])
    kept = {label for label in range(13) if (seed >> label) & 1}
    group = np.arange(13)
    assert turned.weight
    assert np.array_equal(alive(turned, kept, group), alive(x, kept, group).transpose(order))


def test_product_is_a_weight_only_where_a_weight_silences_it() -> None:
    site = site_of((2, 3))
    weight = Labels((2, 3), site.fresh((2, 3)).factors, weight=True)
    assert site.product(weight, 2.0).weight
    assert site.product(Labels((2, 3), weight.factors), weight).weight
    assert not site.product(Labels((2, 1), weight.factors[:1], weight=True), site.fresh((1, 3))).weight


@pytest.mark.parametrize(("axis", "place"), [(1, 1), (-1, 1), (0, None)])
def test_along_finds_the_factor_of_an_axis(axis: int, place: int | None) -> None:
    labels = site_of(()).fresh((1, 3))
    factor = labels.along(axis)
    assert (None if factor is None else factor.axes) == (None if place is None else (place,))
