"""Reading nested tables into dataclasses, strictly: each fault names the file and the key."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from smartc.core.errors import UserError
from smartc.targets.keys import Check, Sources, Table, Text

T = TypeVar("T")
Path = tuple[str, ...]


def read_table(kind: type[T], raw: Mapping[str, object], file: str, path: Path = ()) -> T:
    """Return the dataclass whose fields are the table's keys.

    Args:
        kind: A dataclass; the type of each field is a dataclass too, or annotated with a ``Check``.
        raw: The table.
        file: What the errors name as the file.
        path: The keys that lead from the file's root to this table.

    Raises:
        UserError: A key is unknown, missing, or its value is not usable.
    """
    hints = get_type_hints(kind, include_extras=True)
    for name in raw:
        if name not in hints:
            where = place(file, (*path, name), is_section=isinstance(raw[name], Mapping))
            raise UserError("unknown key", where=where, fix=_nearest(name, hints))
    return kind(**{name: _read(_check(hint), raw, file, (*path, name)) for name, hint in hints.items()})


def place(file: str, path: Path, *, is_section: bool = False) -> str:
    """Return ``file, [section] key``; at the root ``file, key``, or ``file, [section]``."""
    if len(path) > 1:
        return f"{file}, [{path[0]}] {'.'.join(path[1:])}"
    return f"{file}, [{path[0]}]" if is_section else f"{file}, {path[0]}"


def leaves(value: object, prefix: str = "") -> list[str]:
    """Return the dotted keys of a dataclass whose fields may be dataclasses."""
    if not is_dataclass(value):
        return [prefix]
    dot = "." if prefix else ""
    return [leaf for x in fields(value) for leaf in leaves(getattr(value, x.name), f"{prefix}{dot}{x.name}")]


def plain(value: Any) -> Any:
    """Return dicts for dataclasses and lists for tuples, all the way down."""
    if is_dataclass(value):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    return [plain(part) for part in value] if isinstance(value, tuple) else value


def _check(hint: Any) -> Check:
    """Return what a field's type demands of the raw value."""
    check: Check = Table(hint) if isinstance(hint, type) else hint.__metadata__[0]
    return check


def _read(check: Check, raw: Mapping[str, object], file: str, path: Path) -> Any:
    """Return the value of one key."""
    where = place(file, path, is_section=isinstance(check, Table | Sources))
    fix = f"Give {check.expected}"
    if path[-1] not in raw:
        raise UserError("missing", where=where, fix=fix)
    value = raw[path[-1]]
    if isinstance(check, Table) and isinstance(value, Mapping):
        return read_table(check.kind, value, file, path)
    if isinstance(check, Sources) and isinstance(value, Mapping):
        return read_sources(value, file, path)
    try:
        return check.read(value)
    except ValueError as fault:
        raise UserError(f"cannot be {shown(fault.args[0])}", where=where, fix=fix) from None


def read_sources(raw: Mapping[str, object], file: str, path: Path) -> dict[str, str]:
    """Return the texts of nested tables by dotted key."""
    texts: dict[str, str] = {}
    for name, value in raw.items():
        inner = (*path, name)
        if isinstance(value, Mapping):
            texts |= {f"{name}.{key}": text for key, text in read_sources(value, file, inner).items()}
        else:
            texts[name] = _read(Text(), raw, file, inner)
    return texts


def shown(value: object) -> str:
    """Return a value much as the description writes it, cut to one short line."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _nearest(name: str, names: Iterable[str]) -> str:
    """Return what to do about an unknown key."""
    close = difflib.get_close_matches(name, names, 1)
    return f"Did you mean {close[0]}?" if close else f"Remove it; the keys here are {', '.join(names)}"
