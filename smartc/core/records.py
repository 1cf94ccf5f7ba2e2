"""Frozen dataclasses to and from JSON: the type hints are the schema."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from smartc.core.brief import brief
from smartc.core.errors import UserError

T = TypeVar("T")
# No figure of a network comes near, and what is computed of figures below stays finite.
LARGEST = 1e60


@dataclass(frozen=True)
class _Place:
    """Name the value being read, for errors."""

    file: str
    path: str = ""

    def field(self, name: str) -> _Place:
        """Return the place of a key of this object."""
        return _Place(self.file, f"{self.path}.{name}" if self.path else name)

    def item(self, index: int) -> _Place:
        """Return the place of an item of this list."""
        return _Place(self.file, f"{self.path}[{index}]")

    def error(self, fact: str) -> UserError:
        """Return the error that says what is wrong here."""
        return UserError(
            f"{self.path or 'the whole'} {fact}", where=self.file, fix="Restore the file, or compile again"
        )


def encode(value: Any) -> Any:
    """Return a record as values that ``json.dumps`` takes: objects, lists, numbers and strings.

    JSON has no number for "not a number" or infinity: both become ``null``.
    """
    if is_dataclass(value):
        return {field.name: encode(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def decode(kind: type[T], data: object, where: str) -> T:
    """Build the dataclass ``kind`` from parsed JSON.

    A field with a default may be absent; keys without a field are skipped, so that a later version
    can add some. ``null`` in the place of a number reads as "not a number".

    Raises:
        UserError: A key is missing or a value has another type; it names the file and the key.
    """
    return cast(T, _decode(kind, data, _Place(where)))


def _decode(kind: Any, data: Any, place: _Place) -> Any:
    """Read one value of any supported type."""
    if kind is Any:
        return data
    if is_dataclass(kind):
        return _decode_record(kind, data, place)
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return None if data is None else _decode(get_args(kind)[0], data, place)
    if origin is Literal:
        return _decode_choice(get_args(kind), data, place)
    if origin is tuple:
        return _decode_tuple(get_args(kind), data, place)
    if origin is Mapping:
        items = _expect(dict, "an object", data, place).items()
        return {key: _decode(get_args(kind)[1], item, place.field(key)) for key, item in items}
    if kind is float:
        return math.nan if data is None else float(_bounded(_expect((int, float), "a number", data, place), place))
    if kind is int:
        return _bounded(_expect(int, "an integer", data, place), place)
    return _expect(str, "a string", data, place)


def _decode_record(kind: Any, data: Any, place: _Place) -> Any:
    """Read an object into a dataclass."""
    found = _expect(dict, "an object", data, place)
    hints = _hints(kind)
    values = {}
    for field in fields(kind):
        if field.name in found:
            values[field.name] = _decode(hints[field.name], found[field.name], place.field(field.name))
        elif field.default is MISSING and field.default_factory is MISSING:
            raise place.field(field.name).error("is missing")
    return kind(**values)


def _decode_choice(choices: tuple[Any, ...], data: Any, place: _Place) -> Any:
    """Read one of the listed values."""
    if data not in choices:
        raise place.error(f"is {brief(repr(data))} and must be one of {', '.join(map(repr, choices))}")
    return data


def _decode_tuple(kinds: tuple[Any, ...], data: Any, place: _Place) -> tuple[Any, ...]:
    """Read a list, of any length for ``tuple[X, ...]``."""
    found = _expect(list, "a list", data, place)
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(found)
    if len(found) != len(kinds):
        raise place.error(f"has {len(found)} items and must have {len(kinds)}")
    return tuple(_decode(kind, item, place.item(i)) for i, (kind, item) in enumerate(zip(kinds, found, strict=True)))


def _bounded(number: float, place: _Place) -> float:
    """Return a number that arithmetic can be done with."""
    if not abs(number) < LARGEST:  # true of infinity, too
        raise place.error(f"is {brief(number) if isinstance(number, float) else 'a whole number'}, which is too large")
    return number


def _expect(kind: Any, name: str, data: Any, place: _Place) -> Any:
    """Return the value if it has the type; ``True`` is no integer here."""
    if not isinstance(data, kind) or isinstance(data, bool):
        raise place.error(f"is {type(data).__name__} and must be {name}")
    return data


@cache
def _hints(kind: Any) -> dict[str, Any]:
    """Return the field types of a dataclass; resolving them anew for each layer would be slow."""
    return get_type_hints(kind)
