"""Write a target as the TOML that it could have been read from."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from smartc.targets.target import Target

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml_text(target: Target) -> str:
    """Return the text of a file that ``load_target`` reads as an equal target."""
    described = target.to_dict()
    tables = {name: value for name, value in described.items() if isinstance(value, Mapping)}
    head = [_line(name, value) for name, value in described.items() if name not in tables]
    blocks = [[f"[{_key(name)}]", *_lines(table)] for name, table in tables.items()]
    return "\n\n".join("\n".join(block) for block in (head, *blocks)) + "\n"


def _lines(table: Mapping[str, Any]) -> list[str]:
    """Return a line for each key that has a value; TOML has none for a missing one."""
    return [_line(name, value) for name, value in table.items() if value is not None]


def _line(name: str, value: Any) -> str:
    """Return a key with its value."""
    return f"{_key(name)} = {_value(value)}"


def _key(name: str) -> str:
    """Return a key, in quotes where it is more than a word."""
    return name if _BARE.fullmatch(name) else _value(name)


def _value(value: Any) -> str:
    """Return a value; a string of JSON is one of TOML, too."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(_lines(value))} }}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
