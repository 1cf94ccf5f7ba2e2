"""Put a complete folder in the place of another in one step.

Linux can exchange two folders atomically.  Where the file system or the system cannot, the old folder
is first renamed away; killed between the two renames, the old folder is missing until ``recover``
puts it back, which every later look at the folder does first.

What is beside the place in the meantime is locked by the process that made it.  The lock dies with the
process, so what is not locked is a leftover, whoever has the same process number now.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

_AT_CWD = -100
_RENAME_EXCHANGE = 2
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST)
_OLD = ".old"


@contextmanager
def temporary_beside(place: Path) -> Iterator[Path]:
    """Make a folder beside a place for the time of a block, and remove what dead processes left there."""
    for path in _leftovers(place):
        remove_tree(path)
    temporary, lock = _make_locked(place)
    try:
        yield temporary
    finally:
        remove_tree(temporary)
        os.close(lock)


def put_in_place(temporary: Path, place: Path) -> None:
    """Put a folder in its place; what was there is removed.

    Raises:
        OSError: The file system refuses.
    """
    try:
        os.rename(temporary, place)  # does it where there is nothing, or an empty folder
    except OSError as error:
        if error.errno not in _OCCUPIED:
            raise
        if not exchange(temporary, place):
            _replace(temporary, place)
    _sync(place.parent)


def exchange(left: Path, right: Path) -> bool:
    """Exchange two folders atomically; return False where that is not supported.

    Raises:
        OSError: It is supported and fails.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_CWD, os.fsencode(left), _AT_CWD, os.fsencode(right), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(right))


def recover(place: Path) -> None:
    """Put back a folder that a killed process had renamed away."""
    if place.exists():
        return
    for path in _leftovers(place):
        if path.name.endswith(_OLD):
            with suppress(OSError):
                os.rename(path, place)


def sync_tree(folder: Path) -> None:
    """Have a folder and all that is in it written to the disk."""
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)


def remove_tree(path: Path) -> None:
    """Remove a folder if it is there; what cannot be removed is left for the next time."""
    shutil.rmtree(path, ignore_errors=True)


def _make_locked(place: Path) -> tuple[Path, int]:
    """Make a folder beside a place and return it with the descriptor that holds its lock."""
    while True:
        temporary = place.with_name(f".{place.name}.{os.getpid()}.{token_hex(4)}")
        temporary.mkdir()
        # Until it is locked, another process can take it for a leftover and remove it.
        with suppress(FileNotFoundError):
            lock = os.open(temporary, os.O_RDONLY)
            if _lock(lock) is not False and _is_at(temporary, lock):
                return temporary, lock
            os.close(lock)


def _is_at(path: Path, descriptor: int) -> bool:
    """Return whether an open folder is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _replace(temporary: Path, place: Path) -> None:
    """Rename the old folder away and the new one in."""
    old = temporary.with_name(temporary.name + _OLD)
    with _opened(place) as descriptor:
        _lock(descriptor)
        os.rename(place, old)
        os.rename(temporary, place)
        remove_tree(old)


def _leftovers(place: Path) -> Iterator[Path]:
    """Yield the folders beside a place that no living process has locked, each locked meanwhile."""
    form = re.compile(rf"\.{re.escape(place.name)}\.\d+\.[0-9a-f]{{8}}(\{_OLD})?")
    with suppress(OSError):
        for path in list(place.parent.iterdir()):
            if form.fullmatch(path.name):
                with suppress(OSError), _opened(path) as descriptor:
                    if _lock(descriptor):
                        yield path


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open a file or folder for the time of a block; closing it gives its lock back."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Lock an open folder; return False if another process has it, None if there are no locks here."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _sync(path: Path) -> None:
    """Have one file or folder written to the disk."""
    with _opened(path) as descriptor:
        os.fsync(descriptor)
