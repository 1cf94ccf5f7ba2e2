"""Names from outside, as they stand in a line of text."""

from __future__ import annotations


def brief(name: object, width: int = 28) -> str:
    """Return a name on one line, in at most ``width`` characters."""
    line = " ".join(str(name).split())
    return line if len(line) <= width else f"{line[: width - 3]}..."
