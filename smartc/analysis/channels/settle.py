"""Settle which labels fall together: ties make components, open choices are made, and tensors stay rectangular."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from smartc.analysis.channels.labels import BoolArray, Choice, Factor, IntArray, LabelBook, spread
from smartc.analysis.channels.reshape_labels import MERGES_CHANNELS

BESIDE_HEADS = "stands beside heads that go or stay whole"


def settle(book: LabelBook, factors: Iterable[Factor]) -> IntArray:
    """Return each label's component, after settling what was left open and making what survives rectangular.

    Args:
        book: What was recorded; ties and frozen labels are added to it.
        factors: Those of all tensors of the graph.
    """
    joint = {id(factor): factor for factor in factors if len(factor.axes) > 1 and factor.labels.size}
    while True:
        components = _components(book)
        root, kept = _kept_alike(book, components)
        if _choose_merges(book, root, kept) or _choose(book, root, kept):
            continue
        before = len(book.ties)
        for factor in joint.values():
            _make_rectangular(book, factor, root)
        if len(book.ties) == before:
            return components


def _kept_alike(book: LabelBook, root: IntArray) -> tuple[IntArray, BoolArray]:
    """Return components with all that must survive in one, as nothing tells these apart; and which labels these are."""
    kept = np.zeros(book.size, dtype=bool)
    for labels, _ in book.frozen:
        kept[root[labels]] = True
    stays = kept[root]
    return np.where(stays, np.flatnonzero(kept)[0] if kept.any() else 0, root), stays


def _choose(book: LabelBook, root: IntArray, kept: BoolArray) -> bool:
    """Settle the choices that are clear by now, or else tie; return whether there were any."""
    book.place = ""
    clear = [choice for choice in book.choices if _varies_but_along(root[choice.wide.labels], choice)]
    for choice in clear:
        book.freeze(choice.narrow.labels, BESIDE_HEADS)
    # What meets nothing else waits: the others may make its choice clear.
    members = np.bincount(root)
    meeting = [choice for choice in book.choices if (members[root[choice.narrow.labels]] > 1).any()]
    for wide, narrow in () if clear else (meeting or book.choices):
        if kept[narrow.labels].any():
            book.freeze(narrow.labels, BESIDE_HEADS)
            book.tie(wide.labels, _first_along(wide.labels, wide, narrow))
        else:
            book.tie(wide.labels, spread(narrow, wide.axes))
    settled = {id(choice) for choice in (clear or meeting or book.choices)}
    book.choices = [choice for choice in book.choices if id(choice) not in settled]
    return bool(settled)


def _choose_merges(book: LabelBook, root: IntArray, kept: BoolArray) -> bool:
    """Let labels of merged axes follow one option each; return whether there were any.

    It is one that ties nothing that is not tied already, or else the first that a layer makes and nothing keeps.
    """
    merges, book.merges = book.merges, []
    owned = np.zeros(book.size, dtype=bool)
    for array in book.owned if merges else ():
        owned[root[array]] = True
    for labels, options, place in merges:
        fits = [_fits(root[labels], option) for option in options]
        free = [bool((owned[root[option]] & ~kept[option]).all()) for option in options]
        chosen = max(range(len(options)), key=lambda place: (fits[place], free[place], -place))
        book.tie(labels, options[chosen])
        book.place = place
        for other in options[:chosen] + options[chosen + 1 :]:
            book.freeze(other, MERGES_CHANNELS)
    return bool(merges)


def _fits(units: IntArray, option: IntArray) -> bool:
    """Return whether merged labels are the same wherever an option's are, and not the same everywhere."""
    pairs = np.unique(np.stack([np.broadcast_to(option, units.shape).reshape(-1), units.reshape(-1)]), axis=1)
    return len(np.unique(option)) == pairs.shape[1] and len(np.unique(units)) > 1


def _varies_but_along(units: IntArray, choice: Choice) -> bool:
    """Return whether wide labels are the same along the narrow axes, and differ along the others."""
    first = _first_along(units, *choice)
    return bool((units == first).all() and (first != first.reshape(-1)[0]).any())


def _first_along(units: IntArray, wide: Factor, narrow: Factor) -> IntArray:
    """Return the first index of an array of wide labels along the narrow axes, which have size one."""
    return units[tuple(slice(0, 1) if axis in narrow.axes else slice(None) for axis in wide.axes)]


def _make_rectangular(book: LabelBook, factor: Factor, root: IntArray) -> None:
    """Tie a factor along all axes but the longest along which it varies."""
    units = root[factor.labels]
    varies = [place for place in range(units.ndim) if (units != units.take([0], axis=place)).any()]
    if len(varies) > 1:
        keep = max(varies, key=lambda place: units.shape[place])
        rows = np.moveaxis(factor.labels, keep, 0).reshape(units.shape[keep], -1)
        book.tie(rows[:, :1], rows)


def _components(book: LabelBook) -> IntArray:
    """Return the connected component of each label."""
    if not book.ties:
        return np.arange(book.size, dtype=np.int64)
    left, right = (np.concatenate([tie[side] for tie in book.ties]) for side in (0, 1))
    edges = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(book.size, book.size))
    return connected_components(edges, directed=False)[1].astype(np.int64)
