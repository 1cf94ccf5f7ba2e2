"""A command that is held to what smartc promises of every input."""

from __future__ import annotations

import contextlib
import io
import resource
import signal
from collections.abc import Iterator
from typing import Any

from smartc.cli.main import main

MOST_MEMORY = 2**31
MOST_SECONDS = 60.0


def run_command(*arguments: object) -> int:
    """Return the exit code of a command, 0 or 2, after checking that it says at most a line and ends in bounds."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    errors = io.StringIO()
    with _limited(), contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        code = main([str(argument) for argument in arguments])
    text = errors.getvalue()
    assert code in (0, 2), text
    assert text.count("\n") == (code == 2), text
    assert "Traceback" not in text
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before < MOST_MEMORY
    return code


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Interrupt what takes too many seconds of this process."""

    def interrupt(*_: Any) -> None:
        raise RuntimeError(f"took more than {MOST_SECONDS} s")

    before = signal.signal(signal.SIGPROF, interrupt)
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
