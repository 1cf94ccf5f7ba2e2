"""Errors that say that memory ran out, whichever library raises them and whatever they were wrapped in."""

from __future__ import annotations

import re
from collections.abc import Iterator

from smartc.core.errors import Argument, Phrase, SmartcError, UserError

_TEXTS = re.compile(
    r"DefaultCPUAllocator|not enough memory|(can't|cannot|failed to|unable to) allocate|out of memory|bad_?alloc"
    r"|length_error|Invalid buffer size",
    re.IGNORECASE,
)
_BYTES = re.compile(r"(?:allocate|of size|requested)\D{0,30}?([\d.]+) ?(bytes|[KMGTPE]i?B)?", re.IGNORECASE)
_FIX = ("Lower ", Argument("batch"), ", the number of samples or the size of the inputs, or use more memory")
_UNITS = "KMGTPE"


def memory_error(error: BaseException, where: Phrase) -> UserError | None:
    """Return the error that says that memory ran out, if that is what an error comes from.

    Args:
        error: What was raised; what it was raised from counts, too.
        where: The place to name where the error names none.
    """
    for link in chain(error):
        if _is_shortage(link):
            place = error.place if isinstance(error, SmartcError) else where
            return UserError(f"there is not enough memory{_asked(str(link))}", where=place, fix=_FIX)
    return None


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _is_shortage(error: BaseException) -> bool:
    """Return whether an error itself says that memory ran out; every library has words of its own."""
    if isinstance(error, MemoryError):
        return True
    foreign = isinstance(error, RuntimeError) or type(error).__module__.startswith(("onnxruntime", "tvm"))
    return foreign and not isinstance(error, SmartcError) and bool(_TEXTS.search(str(error)))


def _asked(text: str) -> str:
    """Return how much was asked for, as far as an error's text says so."""
    found = _BYTES.search(text)
    if found is None:
        return ""
    number, unit = float(found[1].strip(".") or 0), (found[2] or "bytes").lower()
    power = 0 if unit == "bytes" else _UNITS.lower().index(unit[0]) + 1
    size = number * 1024**power
    step = next((step for step in range(len(_UNITS)) if size < 1024 ** (step + 2)), len(_UNITS) - 1)
    return f": {size / 1024 ** (step + 1):.1f} {_UNITS[step]}iB more were asked for"
