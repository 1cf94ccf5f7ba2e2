"""Interrupts that arrive where Python cannot raise them, such as a weak reference's callback: they come again."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer, main_thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

# Seconds until the next try; whatever could not raise it has ended by then, or there is another try.
_AGAIN = 0.01


@contextmanager
def interrupts_come_again() -> Iterator[None]:
    """Send an interrupt that Python would print and forget once more, until it ends what runs inside."""
    usual, timers = sys.unraisablehook, list[Timer]()

    def hook(unraisable: UnraisableHookArgs) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            usual(unraisable)
            return
        timers.append(Timer(_AGAIN, signal.pthread_kill, (main_thread().ident, signal.SIGINT)))
        timers[-1].daemon = True
        timers[-1].start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = usual
        for timer in timers:
            timer.cancel()
