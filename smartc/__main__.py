"""Run the command line, as ``smartc`` and as ``python -m smartc``."""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

_INTERRUPTED = 130


def run() -> int:
    """Run the command line and return its exit code.

    Until it is ready to report an interrupt itself, one ends the process at once, without a traceback.
    """
    usual = signal.getsignal(signal.SIGINT)
    if usual is signal.default_int_handler:  # else it is ignored, as for a process in the background
        signal.signal(signal.SIGINT, _leave)
    from smartc.cli.main import main

    signal.signal(signal.SIGINT, usual)
    return main()


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """End the process as an interrupted one."""
    os.write(2, b"smartc: interrupted\n")
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    sys.exit(run())
