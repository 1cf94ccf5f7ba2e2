"""A target description as a TOML file, alone or on top of another one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smartc.core.errors import UserError
from smartc.core.regular_file import read_regular
from smartc.targets.parse import read_sources
from smartc.targets.sources import sources_over

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_toml(path: Path, where: str) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises:
        UserError: It cannot be read, or is not TOML; ``where`` is what the error names as the file.
    """
    try:
        return tomllib.loads(read_regular(path).decode("utf-8"))
    except FileNotFoundError:
        fact, fix = "no such file", "Give a TOML file that describes a target"
    except IsADirectoryError:
        fact, fix = "is a folder", "Give a TOML file that describes a target"
    except OSError as fault:
        fact, fix = f"cannot be read ({fault.strerror})", "Make it readable"
    except UnicodeDecodeError as fault:
        fact, fix = f"byte {fault.start} is not UTF-8", "Save it as UTF-8 text"
    except (ValueError, RecursionError) as fault:
        fact, fix = f"is not TOML ({fault})", "Mend the file at that place"
    raise UserError(fact, where=where, fix=fix)


def over_base(base: Mapping[str, Any], own: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a description whose own keys replace those of its base, table by table; its name is never the base's.

    A value of its own has its own source, by its key or by a table around it, or one that says that there is none.

    Args:
        base: The description in full, sources by dotted key, as ``Target.to_dict`` gives it.
        own: The tables of the file.
        where: What the errors name as the file.

    Raises:
        UserError: A source is not a text.
    """
    nameless = {key: value for key, value in base["target"].items() if key != "name"}
    said = own.get("source", {})
    if isinstance(said, Mapping):
        # A key's source is one text however its dotted name is written.
        own = {**own, "source": sources_over(base, own, read_sources(said, where, ("source",)))}
    return _merged({**base, "target": nameless}, own)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of both tables; where both have one, the upper value, or both tables merged alike."""
    merged = dict(below)
    for key, value in above.items():
        both_tables = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both_tables else value
    return merged
