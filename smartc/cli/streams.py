"""Standard output and standard error, which may be closed, full or gone."""

from __future__ import annotations

import errno
import os
import sys
from io import TextIOWrapper
from typing import TextIO

from smartc.core.errors import UserError

# What is wrong with the machine, not with smartc: full or failing disks, too many open files.
_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EBADF)


def prepare_streams() -> None:
    """Let standard output and standard error take every text.

    Raises:
        UserError: Standard output is closed.
    """
    if sys.stderr is None:  # closed
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:
        # Else the next file that is opened would take its number, and what libraries print.
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        raise UserError("it is closed", where="standard output", fix="Send it to a file, or to /dev/null")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # layers and files may be called anything


def flushed(code: int) -> int:
    """Return an exit code after all that was printed has arrived; another one where it cannot."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        discard(sys.stdout)
        return 141
    except OSError as error:
        discard(sys.stdout)
        print(f"smartc: standard output: it cannot be written ({error.strerror}). Make room for it.", file=sys.stderr)
        return UserError.exit_code
    return code


def machine_error(error: BaseException) -> UserError | None:
    """Return the error that says what is wrong with the machine, if that is what an error comes from."""
    if not isinstance(error, OSError) or error.errno not in _OF_THE_MACHINE:
        return None
    where = "output" if error.filename is None else str(error.filename)
    return UserError(f"it fails ({error.strerror})", where=where, fix="Make room there, or choose another place")


def discard(stream: TextIO) -> None:
    """Let what is printed on a stream go nowhere: Python complains once more when it flushes one that fails."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
