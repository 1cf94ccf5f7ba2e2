"""What a model file is, by its content."""

from __future__ import annotations

import zipfile
from codecs import getincrementaldecoder
from pathlib import Path
from typing import IO, Literal

from smartc.core.errors import UserError

Kind = Literal["program", "torch", "pickle", "safetensors"]

# torch stores its files as they are; whoever packs an archive again seldom makes it a hundred times smaller.
MOST_EXPANSION = 100
SAVE_AGAIN = "Save the model again, by torch.export.save(torch.export.export(model, inputs), path)"
_LEGACY_TORCH = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
_PICKLES = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))


def recognise(stream: IO[bytes], file: Path) -> Kind:
    """Return the kind of a file, told by its content."""
    head = stream.read(512)
    size = stream.seek(0, 2)
    stream.seek(0)
    if not head:
        raise UserError("it is empty", where=str(file), fix=SAVE_AGAIN)
    if head.startswith(b"PK"):
        return _recognise_zip(stream, file)
    if head.startswith(_LEGACY_TORCH):
        return "torch"
    if head.startswith(_PICKLES):
        return "pickle"
    if head[8:9] == b"{":
        if 8 + int.from_bytes(head[:8], "little") <= size:
            return "safetensors"
        raise UserError("it is truncated", where=str(file), fix="Copy or download it again")
    if head.startswith(b"version https://git-lfs"):
        fix = "Fetch the file itself, by git lfs pull"
        raise UserError("it is a pointer of Git LFS and not the file itself", where=str(file), fix=fix)
    what = "it is text" if _is_text(head) else f"it begins with {head[:4].hex(' ')}"
    raise UserError(f"{what}, which is no model file", where=str(file), fix=SAVE_AGAIN)


def _recognise_zip(stream: IO[bytes], file: Path) -> Kind:
    """Tell the archives of torch apart by the names of what they hold."""
    try:
        members = zipfile.ZipFile(stream).infolist()
        names = [member.filename for member in members]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        fix = "Copy or download it again"
        raise UserError("it is truncated or damaged", where=str(file), fix=fix) from error
    finally:
        size = stream.seek(0, 2)
        stream.seek(0)
    claimed = sum(member.file_size for member in members)
    if claimed > MOST_EXPANSION * size:
        fact = f"it is a zip archive of {size} bytes whose files claim {claimed}"
        raise UserError(fact, where=str(file), fix=SAVE_AGAIN)
    inner = {name.partition("/")[2] for name in names}
    if "archive_format" in inner:
        return "program"
    if "serialized_exported_program.json" in names:
        fact = "it is an exported program in a layout that torch left with version 2.8"
        raise UserError(fact, where=str(file), fix="Load and save it with torch 2.8")
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        fact = "it is a TorchScript archive, whose graph cannot be pruned"
        raise UserError(fact, where=str(file), fix="Export the original module by torch.export.save")
    if "data.pkl" in inner:
        return "torch"
    raise UserError("it is a zip archive that torch did not write", where=str(file), fix=SAVE_AGAIN)


def _is_text(head: bytes) -> bool:
    """Return whether bytes read as text; the last character may be cut."""
    try:
        getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return not any(byte < 9 or 13 < byte < 27 for byte in head)
