"""Names from outside, as they stand in a line of text."""

from __future__ import annotations

# What moves the cursor, colours what follows, or turns the direction of writing.
_CONTROLS = (*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_HARMLESS = dict.fromkeys(_CONTROLS, "?")


def readable(name: str) -> str:
    """Return a name that every text can hold: file names may have bytes that are no characters."""
    return name.encode("utf-8", "replace").decode("utf-8")


def harmless(text: str) -> str:
    """Return a text in which nothing is an order to a terminal; line breaks and tabs stay."""
    return text.translate(_HARMLESS)


def brief(name: object, width: int = 28) -> str:
    """Return a name on one line, in at most ``width`` characters."""
    line = " ".join(str(name).split())
    return line if len(line) <= width else f"{line[: width - 3]}..."
