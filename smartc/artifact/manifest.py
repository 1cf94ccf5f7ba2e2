"""The manifest of an artifact: what it is, and the hash of each file in it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path, PurePosixPath
from typing import Any

from smartc.artifact.atomic_folder import recover
from smartc.core.brief import readable
from smartc.core.errors import UserError
from smartc.core.regular_file import open_regular, read_json

MANIFEST = "manifest.json"
SCHEMA = 1
# What every build holds, whatever it was lowered to.
REQUIRED = ("model.pt2", "plan.json", "report.json")
_AGAIN = "Compile the model again"


def describe(folder: Path) -> dict[str, dict[str, Any]]:
    """Return hash and size of every file of a folder, by name relative to it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"sha256": _sha256(path), "bytes": path.stat().st_size} for path in files
    }


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """Return what ``manifest.json`` says.

    Raises:
        UserError: The folder is missing or no artifact, or another version wrote it.
    """
    place = Path(folder)
    fix = "Name a folder that smartc compile wrote"
    check_name(place)
    recover(Path(os.path.realpath(place)))
    if not place.exists():
        raise UserError("there is no such folder", where=str(folder), fix=fix)
    if not place.is_dir():
        raise UserError("it is not a folder", where=str(folder), fix=fix)
    try:
        content = read_json(place / MANIFEST, _AGAIN)
    except FileNotFoundError as error:
        raise UserError(f"it has no {MANIFEST}", where=str(folder), fix=fix) from error
    except OSError as error:
        fact = f"it cannot be read ({error.strerror})"
        raise UserError(fact, where=str(place / MANIFEST), fix="Make it readable") from error
    _check(content, str(place / MANIFEST))
    manifest: dict[str, Any] = content
    return manifest


def check_name(folder: str | Path) -> None:
    """Raise unless the name of a folder is text: ONNX cannot open files in one whose name is not.

    Raises:
        UserError: It has bytes that are no characters.
    """
    if readable(str(folder)) != str(folder):
        fact = "its name has bytes that are no characters of UTF-8"
        raise UserError(fact, where=str(folder), fix="Give the folder another name")


def check_files(folder: str | Path, *names: str) -> None:
    """Raise unless the files are as they were written; all of them if none is named.

    Raises:
        UserError: A file is missing, truncated or changed, or as ``read_manifest``.
    """
    listed = read_manifest(folder)["files"]
    for name in names or listed:
        path = Path(folder) / name
        if name not in listed:
            raise UserError("it is not part of this artifact", where=str(path), fix=_AGAIN)
        fault = _fault(path, listed[name])
        if fault:
            raise UserError(fault, where=str(path), fix=_AGAIN)


def check_complete(folder: str | Path) -> None:
    """Raise unless a folder holds a whole build, each file as it was written, and nothing else.

    Raises:
        UserError: As ``check_files``, or a file is there that the manifest does not list, or the manifest
            lacks one that every build has.
    """
    check_files(folder)
    check_files(folder, *REQUIRED)
    foreign = unlisted(Path(folder))
    if foreign:
        fact = f"it holds {foreign[0]}, which its {MANIFEST} does not list"
        raise UserError(fact, where=str(folder), fix="Move that file away, or compile the model again")


def is_ours(folder: Path) -> bool:
    """Return whether smartc, in any version, wrote a folder."""
    try:
        content = read_json(folder / MANIFEST, _AGAIN)
    except (OSError, UserError):
        return False
    return isinstance(content, dict) and "smartc" in content and isinstance(content.get("files"), dict)


def unlisted(folder: Path) -> list[str]:
    """Return the files of a folder that its manifest does not list."""
    listed = read_manifest(folder)["files"]
    there = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return sorted(name for name in there if name not in listed and name != MANIFEST)


def _check(content: Any, where: str) -> None:
    """Raise unless a manifest has the form that this version reads."""
    if not isinstance(content, dict) or "smartc" not in content:
        raise UserError("smartc did not write it", where=where, fix="Name a folder that smartc compile wrote")
    schema = content.get("schema")
    if schema != SCHEMA:
        fact = f"its schema is {schema!r} and this version reads {SCHEMA}"
        raise UserError(fact, where=where, fix="Use the version of smartc that wrote it")
    files = content.get("files")
    if not isinstance(files, dict) or not all(_is_entry(name, entry) for name, entry in files.items()):
        raise UserError("its list of files is damaged", where=where, fix=_AGAIN)


def _is_entry(name: str, entry: Any) -> bool:
    """Return whether a manifest's entry names a file inside the folder, with hash and size."""
    path = PurePosixPath(name)
    inside = bool(path.parts) and not path.is_absolute() and ".." not in path.parts
    return (
        inside
        and isinstance(entry, dict)
        and isinstance(entry.get("sha256"), str)
        and isinstance(entry.get("bytes"), int)
    )


def _fault(path: Path, entry: dict[str, Any]) -> str | None:
    """Return what is wrong with a file, or None."""
    try:
        size = path.stat().st_size
        if size < entry["bytes"]:
            return f"it is truncated: {size} of {entry['bytes']} bytes"
        if size != entry["bytes"] or _sha256(path) != entry["sha256"]:
            return "it was changed after it was written"
    except FileNotFoundError:
        return "it is missing"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    return None


def _sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open_regular(path) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
