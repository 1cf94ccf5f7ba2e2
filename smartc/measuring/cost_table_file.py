"""The cost table of this machine: where it is kept, and whether it is of this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path

from smartc.core.errors import UserError
from smartc.core.records import decode, encode
from smartc.core.regular_file import read_json
from smartc.core.write_file import write_file
from smartc.measuring.processor import installed_versions, processor_name
from smartc.targets.cost_table import CostTable

SCHEMA = 3
AGAIN = "Run smartc targets calibrate cpu"


def table_path() -> Path:
    """Return where the table is kept: in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "smartc" / "cpu.json"


def write_table(table: CostTable) -> Path:
    """Keep a table, in place of one that is there, and return where.

    Raises:
        UserError: The cache folder cannot be written.
    """
    path = table_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fact, fix = f"the folder cannot be made ({error.strerror})", "Set XDG_CACHE_HOME to a folder of yours"
        raise UserError(fact, where=str(path.parent), fix=fix) from error
    write_file(path, (json.dumps(encode(table), indent=1, allow_nan=False) + "\n").encode())
    return path


def read_table() -> CostTable | None:
    """Return the table of this machine, None where there is none.

    Raises:
        UserError: The file is damaged, of another schema, or was measured on another processor or with
            other versions.
    """
    path = table_path()
    try:
        content = read_json(path, AGAIN)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", where=str(path), fix="Make it readable") from error
    table = _decoded(content, path)
    _check_machine(table, path)
    return table


def noise_text(table: CostTable) -> str:
    """Return the sentence, without its full stop, that says how noisy a table is and what to do about it."""
    fact = f"the table of kernels is noisy: half of its times spread by {table.noise:.0%} or more"
    return f"{fact}. Close what else runs, and run smartc targets calibrate cpu again"


def _decoded(content: object, path: Path) -> CostTable:
    """Return the table that a file holds."""
    schema = content.get("schema") if isinstance(content, dict) else None
    if isinstance(content, dict) and schema != SCHEMA:
        raise _unusable(f"its schema is {schema!r} and this version reads {SCHEMA}", path)
    try:
        table = decode(CostTable, content, str(path))
        table.check()
    except UserError as error:
        raise _unusable(error.fact, path) from error
    except ValueError as error:
        raise _unusable(f"its measurements are damaged: {error}", path) from error
    return table


def _check_machine(table: CostTable, path: Path) -> None:
    """Fail unless a table was measured on this processor with what is installed."""
    processor = processor_name()
    if table.processor != processor:
        raise _unusable(f"it was measured on {table.processor}, and this is {processor}", path)
    for name, version in installed_versions().items():
        measured = table.versions.get(name)
        if measured is None:
            raise _unusable(f"it was measured without {name}, which is installed now", path)
        if measured != version:
            raise _unusable(f"it was measured with {name} {measured}, and {version} is installed", path)


def _unusable(fact: str, path: Path) -> UserError:
    """Return the error for a table that is no use."""
    return UserError(fact, where=str(path), fix=AGAIN)
