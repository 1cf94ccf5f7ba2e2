"""The terminal that commands print on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from rich.console import Console

# Into a file or a pipe, where there is no width to fit.
_WIDTH = 120


class Output(Console):
    """Standard output; a broken pipe is left to the command line."""

    def say(self, text: str) -> None:
        """Print one line as it is, however long."""
        self.print(text, markup=False, soft_wrap=True)

    def on_broken_pipe(self) -> NoReturn:
        """Raise it."""
        raise BrokenPipeError


def output() -> Output:
    """Return the console for standard output."""
    return Output(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)


@contextmanager
def progress(doing: str) -> Iterator[None]:
    """Show that something is going on for the time of a block, if anybody is looking."""
    if not sys.stderr.isatty():
        yield
        return
    with Console(stderr=True).status(doing):
        yield
