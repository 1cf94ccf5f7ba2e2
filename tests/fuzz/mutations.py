"""Mutations of bytes and of JSON values."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# Examples of each test: seconds in CI, hours by hand.
EXAMPLES = int(os.environ.get("SMARTC_FUZZ_EXAMPLES", "25"))
FUZZ = settings(
    max_examples=EXAMPLES,
    derandomize="SMARTC_FUZZ_EXAMPLES" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, float("inf"), float("nan"), ""),
    *("x", "\x00", "\x1b[2J", "=1", "../x", "a" * 5000, "\ud800", [], [[]], [0], {}, {"": 0}, [None] * 3),
)


@st.composite
def mutated_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Return content that is cut, overwritten, doubled or filled at a few places."""
    found = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(found) - 1, 0)))
        length = draw(st.integers(0, 64))
        kind = draw(st.sampled_from(("cut", "flip", "write", "insert", "end")))
        if kind == "cut":
            del found[place : place + length]
        elif kind == "flip" and found:
            found[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "write":
            found[place : place + length] = draw(st.binary(min_size=length, max_size=length))
        elif kind == "insert":
            found[place:place] = draw(st.binary(max_size=length))
        else:
            del found[place:]
    return bytes(found)


@st.composite
def mutated_json(draw: st.DrawFn, content: bytes) -> bytes:
    """Return JSON of which one or two values, at any depth, are mutated; or JSON of great depth."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.sampled_from((b"[", b'{"a":'))) * 200_000
    return json.dumps(draw(mutated_value(json.loads(content)))).encode()


@st.composite
def mutated_value(draw: st.DrawFn, content: Any) -> Any:
    """Return nested objects and lists of which one or two values are odd, gone, others of the same or a little off."""
    value = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 2))):
        places = list(_places(value))
        if not places:
            break
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        kind = draw(st.sampled_from(("odd", "odd", "gone", "renamed", "other", "near", "near")))
        if kind == "gone":
            del holder[key]
        elif kind == "renamed" and isinstance(holder, dict):
            holder[draw(st.sampled_from(("", "x", f"{key}x", "\x00", "a.b")))] = holder.pop(key)
        elif kind == "other":
            other, there = places[draw(st.integers(0, len(places) - 1))]
            holder[key] = copy.deepcopy(other[there])
        elif kind == "near":
            holder[key] = draw(_near(holder[key]))
        else:
            holder[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
    return value


@st.composite
def _near(draw: st.DrawFn, value: Any) -> Any:
    """Return a value of the same type that is a little off; of a text that is JSON itself, one within."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return draw(st.sampled_from((value + 1, value - 1, -value, value * 2, value * 1000, 2**40)))
    if isinstance(value, list):
        return draw(st.sampled_from((value * 2, value[:-1], value[::-1], [*value, *value[-1:]])))
    if isinstance(value, str):
        if value.startswith(("[", "{")):
            return draw(mutated_json(value.encode())).decode()
        return draw(mutated_bytes(value.encode())).decode(errors="replace")
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every key of every object and every index of every list inside a value, with its holder."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key])
