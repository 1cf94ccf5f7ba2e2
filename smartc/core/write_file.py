"""Write one file whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from smartc.core.errors import UserError


def write_file(path: str | Path, content: bytes) -> None:
    """Write a file under a temporary name beside it, and give it its own when complete.

    Raises:
        UserError: The folder is missing or read-only, or the disk is full.
    """
    place = Path(os.path.realpath(path))
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        if place.exists() and not place.is_file():  # such as /dev/stdout
            place.write_bytes(content)
            return
        temporary.write_bytes(content)
        os.replace(temporary, place)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        fact = f"it cannot be written ({error.strerror})"
        raise UserError(fact, where=str(path), fix="Choose another file") from error
