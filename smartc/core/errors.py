"""The errors of smartc: each says what is wrong, where, and what to do about it."""

from __future__ import annotations


class SmartcError(Exception):
    """State a fact about a place and how to mend it.

    Args:
        fact: What is wrong, with the values that show it.
        where: The file, layer, option or key that it is about.
        fix: What the reader can do.
    """

    exit_code = 70

    def __init__(self, fact: str, *, where: str, fix: str) -> None:
        super().__init__(fact, where, fix)
        self.fact = fact
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        """Return ``where: fact. fix.`` on one line."""
        return f"{self.where}: {_sentence(self.fact)} {_sentence(self.fix)}"


class UserError(SmartcError):
    """Something that the user can mend: input, options, the model. Exit code 2."""

    exit_code = 2


class InternalError(SmartcError):
    """A fault of smartc itself, found by one of its own checks. Exit code 70."""

    def __init__(self, fact: str, *, where: str, fix: str = "This is a fault of smartc: please report it") -> None:
        super().__init__(fact, where=where, fix=fix)


def _sentence(text: str) -> str:
    """Return the text ended by a full stop."""
    return text if text.endswith((".", "!", "?")) else text + "."


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, shortened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
