"""Files from outside, opened only where they are ordinary files: a pipe or a device could block or never end."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import IO, Any

from smartc.core.errors import UserError

# What a description in JSON may take: the report of a thousand layers takes a hundredth of it.
MOST_JSON_BYTES = 2**28


def open_regular(path: str | Path) -> IO[bytes]:
    """Return an ordinary file, opened to read bytes; a link to one will do.

    Raises:
        OSError: It is missing, a folder, or cannot be read, as ``open`` has it.
        UserError: It is a pipe, a device or a socket.
    """
    # Merely to open a device may do something, and to open a pipe may wait for ever.
    check_regular(path, os.stat(path))
    stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
    try:
        check_regular(path, os.fstat(stream.fileno()))
    except BaseException:
        stream.close()
        raise
    return stream


def check_regular(path: str | Path, found: os.stat_result) -> None:
    """Raise unless what was found at a path is an ordinary file.

    Raises:
        IsADirectoryError: It is a folder.
        UserError: It is something else; the text names what.
    """
    if stat.S_ISREG(found.st_mode):
        return
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    what = kinds.get(stat.S_IFMT(found.st_mode), "a device")
    fix = "Give an ordinary file, and write to one what else would come from there"
    raise UserError(f"it is {what} and no ordinary file", where=str(path), fix=fix)


def read_regular(path: str | Path) -> bytes:
    """Return the content of an ordinary file.

    Raises:
        OSError: As ``open_regular``.
        UserError: As ``open_regular``.
    """
    with open_regular(path) as stream:
        return stream.read()


def read_json(path: str | Path, fix: str) -> Any:
    """Return what an ordinary file holds as JSON.

    Args:
        path: The file.
        fix: What to do about one that is damaged.

    Raises:
        OSError: As ``open_regular``.
        UserError: As ``open_regular``, or it is too long, or no JSON of bounded depth and numbers.
    """
    with open_regular(path) as stream:
        content = stream.read(MOST_JSON_BYTES + 1)
    if len(content) > MOST_JSON_BYTES:
        raise UserError(f"it is longer than {MOST_JSON_BYTES} bytes", where=str(path), fix=fix)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError("it is not JSON", where=str(path), fix=fix) from error
