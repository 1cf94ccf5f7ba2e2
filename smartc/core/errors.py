"""The errors of smartc: each says what is wrong, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Argument:
    """An argument that an error speaks of; Python and the command line each have a spelling of it.

    Attributes:
        name: Its name in Python.
        value: What was given for it or can be; ``...`` where that does not matter.
    """

    name: str
    value: object = ...

    def __str__(self) -> str:
        """Return the spelling of Python: ``granularity='2:4'``, or ``data=...`` without a value."""
        if self.value is ...:
            return f"{self.name}=..."
        if callable(self.value):
            return f"{self.name}={getattr(self.value, '__qualname__', type(self.value).__name__)}"
        return f"{self.name}={self.value!r}"


# What a user's own code may end with; what interrupts it ends everything.
OWN_CODE_FAILURES = (Exception, SystemExit, GeneratorExit)
# A text that may speak of arguments; its parts follow one another.
Phrase = str | Argument | tuple["Phrase", ...]


class SmartcError(Exception):
    """An error of smartc: a fact about a place, and how to mend it.

    ``str()`` gives all three in one line, ``where: fact. fix.``, with the names of Python's arguments.

    Args:
        fact: What is wrong, with the values that show it.
        where: The file, layer, argument or key that it is about.
        fix: What the reader can do.

    Attributes:
        fact: The same as text, like the other two.
        where: See there.
        fix: See there.
        exit_code: What the command line ends with.
    """

    exit_code = 70

    def __init__(self, fact: Phrase, *, where: Phrase, fix: Phrase) -> None:
        self._phrases = (where, fact, fix)
        self.where, self.fact, self.fix = (_spelled(phrase, str) for phrase in self._phrases)
        super().__init__(self.fact, self.where, self.fix)

    def __str__(self) -> str:
        """Return ``where: fact. fix.`` on one line, as one reads it in Python."""
        return self.message(str)

    @property
    def place(self) -> Phrase:
        """Return what ``where`` was made of, for another error about the same."""
        return self._phrases[0]

    def message(self, spell: Callable[[Argument], str]) -> str:
        """Return ``where: fact. fix.`` on one line.

        Args:
            spell: Returns how an argument is written.
        """
        where, fact, fix = (_spelled(phrase, spell) for phrase in self._phrases)
        return f"{where}: {_sentence(fact)} {_sentence(fix)}"


class UserError(SmartcError):
    """What the user can mend: an argument, a file, the model.

    On the command line it ends in exit code 2.
    """

    exit_code = 2


class InternalError(SmartcError):
    """A fault of smartc itself, found by one of its own checks; please report it.

    On the command line it ends in exit code 70.
    """

    def __init__(
        self, fact: Phrase, *, where: Phrase, fix: Phrase = "This is a fault of smartc: please report it"
    ) -> None:
        super().__init__(fact, where=where, fix=fix)


def _spelled(phrase: Phrase, spell: Callable[[Argument], str]) -> str:
    """Return a phrase as text."""
    if isinstance(phrase, str):
        return phrase
    return spell(phrase) if isinstance(phrase, Argument) else "".join(_spelled(part, spell) for part in phrase)


def _sentence(text: str) -> str:
    """Return the text ended by a full stop."""
    return text if text.endswith((".", "!", "?")) else text + "."


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, shortened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
