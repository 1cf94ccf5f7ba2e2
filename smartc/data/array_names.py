"""How arrays of a file are told apart, the same for data to learn from, labelled inputs and inputs to run on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

LABEL_NAMES = ("labels", "label", "y", "targets", "target")


def label_name(names: Iterable[str], inputs: Sequence[str] = ()) -> str | None:
    """Return which of the names is that of labels, None if none is; an input of the model may be called so, too."""
    given = list(names)
    return next((name for name in LABEL_NAMES if name in given and name not in inputs), None)


def by_position(names: Sequence[str]) -> bool:
    """Return whether names are those that NumPy gives to arrays without any."""
    return list(names) == [f"arr_{place}" for place in range(len(names))]
