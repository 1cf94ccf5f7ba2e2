"""The folder that a compilation leaves behind: written whole or not at all, with a hash of every file."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from smartc.artifact.atomic_folder import put_in_place, recover, sync_tree, temporary_beside
from smartc.artifact.manifest import (
    MANIFEST,
    SCHEMA,
    check_files,
    check_name,
    describe,
    is_ours,
    read_manifest,
    unlisted,
)
from smartc.core.errors import UserError
from smartc.core.version import __version__

__all__ = ["check_files", "check_writable", "read_manifest", "write_artifact"]

# Enough for a file system to need a new block, so that a full disk is found.
_PROBE_BYTES = 1 << 16
_FULL = (errno.ENOSPC, errno.EDQUOT)
_OTHER = "Choose another folder"


def check_writable(folder: str | Path) -> None:
    """Raise unless an artifact can be written to a folder; done before any long work.

    Raises:
        UserError: The folder holds something that is not ours, cannot be replaced, or its parent is
            read-only or full.
    """
    place = Path(os.path.realpath(folder))
    check_name(folder)
    with _disk_faults(folder):
        recover(place)
        _check_replaceable(place, folder)
        parent = next(path for path in place.parents if path.exists())
        with temporary_beside(parent / place.name) as probe:
            (probe / "probe").write_bytes(bytes(_PROBE_BYTES))
            sync_tree(probe)


def write_artifact(folder: str | Path, files: Mapping[str, Callable[[Path], None]], about: Mapping[str, Any]) -> None:
    """Write files and a manifest to a folder, replacing an artifact that is there.

    Killed at any moment, this leaves the folder that was there or the complete new one.  What it
    leaves beside it is removed when the folder is next written.

    Args:
        folder: Need not exist; it is made with its parents.
        files: By name, what writes each file to a path.
        about: What the manifest says beside the files.

    Raises:
        UserError: As ``check_writable``, or a file cannot be written.
    """
    place = Path(os.path.realpath(folder))
    with _disk_faults(folder):
        place.parent.mkdir(parents=True, exist_ok=True)
        recover(place)
        _check_replaceable(place, folder)
        with temporary_beside(place) as temporary:
            for name, write in files.items():
                write(temporary / name)
            content = {"schema": SCHEMA, "smartc": __version__, **about, "files": describe(temporary)}
            (temporary / MANIFEST).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            sync_tree(temporary)
            _check_replaceable(place, folder)
            put_in_place(temporary, place)


def _check_replaceable(place: Path, folder: str | Path) -> None:
    """Raise if a folder exists and is not an artifact with nothing else in it, or is no folder."""
    where = str(folder)
    if not place.exists():
        return
    if not place.is_dir():
        raise UserError("it exists and is not a folder", where=where, fix=_OTHER)
    if place.is_mount():
        fix = f"Choose a folder inside it, such as {place / 'build'}"
        raise UserError("it is a mount point, which cannot be replaced", where=where, fix=fix)
    if not any(place.iterdir()):
        return
    if not is_ours(place):
        raise UserError("it exists, is not empty and was not written by smartc", where=where, fix=_OTHER)
    foreign = unlisted(place)
    if foreign:
        fact = f"it would be replaced, and it holds {foreign[0]}, which smartc did not write there"
        raise UserError(fact, where=where, fix="Move it away, or choose another folder")


@contextmanager
def _disk_faults(folder: str | Path) -> Iterator[None]:
    """Turn what the file system refuses into an error that says so."""
    try:
        yield
    except Exception as error:
        code = _disk_fault(error)
        if code is None:
            raise
        fix = f"{_OTHER}, or {'free some space' if code in _FULL else 'allow writing there'}"
        raise UserError(f"it cannot be written ({os.strerror(code)})", where=str(folder), fix=fix) from error


def _disk_fault(error: BaseException | None) -> int | None:
    """Return the code that the file system gave, which libraries wrap in errors of their own."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        if re.search(r"PytorchStreamWriter failed|No space left", str(error)):
            return errno.ENOSPC
        error = error.__cause__
    return None
