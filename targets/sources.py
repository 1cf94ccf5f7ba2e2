"""Where the values of a target description come from: a text for each key, or for the table that it is in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from smartc.core.errors import UserError
from smartc.targets.parse import leaves, place, shown

if TYPE_CHECKING:
    from smartc.targets.target import Target

_NEED_NO_SOURCE = ("schema", "target", "source")


def check_sources(target: Target, file: str) -> None:
    """Raise unless each key, or the table it is in, has a source, and each source has a key."""
    keys = [key for key in leaves(target) if key.split(".")[0] not in _NEED_NO_SOURCE]
    names = {name for key in keys for name in _holders(key)}
    for key in keys:
        if not any(name in target.source for name in _holders(key)):
            fix = f'Say where the value comes from, as in {key} = "data sheet, page 3"'
            raise UserError("missing", where=place(file, ("source", key)), fix=fix)
    for name in target.source:
        if name not in names:
            fix = "Name a key of this file, as in array.rows, or a section"
            raise UserError("unknown key", where=place(file, ("source", name)), fix=fix)


def source_of(sources: Mapping[str, str], key: str) -> str:
    """Return the source of a dotted key, or of the innermost table around it that has one; else nothing."""
    return next((sources[holder] for holder in reversed(_holders(key)) if holder in sources), "")


def sources_over(base: Mapping[str, Any], own: Mapping[str, Any], said: Mapping[str, str]) -> dict[str, str]:
    """Return the sources of a description over a base: a value of its own never keeps the base's text as it is.

    Args:
        base: The description below, sources by dotted key.
        own: The tables above.
        said: Their sources by dotted key.
    """
    merged = {**base["source"], **said}
    values = dict(table_leaves(base))
    for key, value in table_leaves(own):
        if key.split(".")[0] in _NEED_NO_SOURCE or key not in values:
            continue
        text = source_of(said, key)
        if not text and value != values[key]:
            text = f"not given; of {shown(values[key])} {base['target']['name']} says: {source_of(merged, key)}"
        if text and source_of(merged, key) != text:
            merged[key] = text
    return merged


def table_leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys of nested tables with their values."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from table_leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _holders(key: str) -> list[str]:
    """Return the dotted key and the tables around it."""
    parts = key.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
