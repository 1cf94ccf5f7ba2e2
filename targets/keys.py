"""What the value of one key of a target description may be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Protocol


class Check(Protocol):
    """Turn a raw value into a field's value, or refuse it."""

    @property
    def expected(self) -> str:
        """Return what a usable value is, to complete ``Give ...``."""

    def read(self, raw: object) -> Any:
        """Return the field's value; raises ``ValueError`` where the raw one is not usable."""


@dataclass(frozen=True)
class Whole:
    """A whole number in a closed range."""

    least: int = 1
    most: int = 65536

    @property
    def expected(self) -> str:
        """Return the range in words."""
        return f"a whole number from {self.least} to {self.most}" if self.least < self.most else str(self.most)

    def read(self, raw: object) -> int:
        """Return the number; ``true`` is not one."""
        if not isinstance(raw, int) or isinstance(raw, bool) or not self.least <= raw <= self.most:
            raise ValueError(raw)
        return raw


@dataclass(frozen=True)
class Number:
    """A finite number in a closed range."""

    least: float = 1e-6
    most: float = 1e12

    @property
    def expected(self) -> str:
        """Return the range in words."""
        return f"a number from {self.least:g} to {self.most:g}"

    def read(self, raw: object) -> float:
        """Return the number as a float; ``nan`` is outside every range."""
        if not isinstance(raw, int | float) or isinstance(raw, bool) or not self.least <= raw <= self.most:
            raise ValueError(raw)
        return float(raw)


@dataclass(frozen=True)
class Flag:
    """True or false."""

    expected: str = "true or false"

    def read(self, raw: object) -> bool:
        """Return the flag; 0 and 1 are not flags."""
        if not isinstance(raw, bool):
            raise ValueError(raw)
        return raw


@dataclass(frozen=True)
class Text:
    """A string that matches a pattern as a whole."""

    expected: str = "a text of one line"
    pattern: str = r".*\S.*"

    def read(self, raw: object) -> str:
        """Return the text."""
        if not isinstance(raw, str) or not re.fullmatch(self.pattern, raw):
            raise ValueError(raw)
        return raw


def one_of(*options: str) -> Text:
    """Return the check for a text that is one of the options."""
    return Text(f"one of {', '.join(options)}", "|".join(re.escape(option) for option in options))


@dataclass(frozen=True)
class Several:
    """A list of values that all pass one check; ``length`` 0 is any length."""

    expected: str
    each: Check
    length: int = 0

    def read(self, raw: object) -> tuple[Any, ...]:
        """Return the values as a tuple."""
        if not isinstance(raw, list | tuple) or (self.length and len(raw) != self.length):
            raise ValueError(raw)
        return tuple(self.each.read(value) for value in raw)


@dataclass(frozen=True)
class Table:
    """A table whose keys are the fields of a dataclass."""

    kind: type[Any]

    @property
    def expected(self) -> str:
        """Return the keys in words."""
        return f"a table with the keys {', '.join(self.kind.__dataclass_fields__)}"

    def read(self, raw: object) -> Any:
        """Refuse: a table is read key by key, so that an error can name the key."""
        raise ValueError(raw)


@dataclass(frozen=True)
class Sources:
    """A table of texts by the dotted key that each is about; a table's name stands for all its keys."""

    expected: str = 'a table of texts, as in array.rows = "data sheet, page 3"'

    def read(self, raw: object) -> Any:
        """Refuse: a table is read key by key, so that an error can name the key."""
        raise ValueError(raw)
