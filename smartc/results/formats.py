"""Numbers, shapes and names as a person reads them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

_SUFFIXES = ("", "k", "M", "G", "T", "P")
_RANK_SUFFIX = re.compile(r"_?[123]d$")


def significant(value: float, digits: int = 3) -> str:
    """Return the value with that many digits, never fewer than its integer part has."""
    if not math.isfinite(value):
        return "n/a" if math.isnan(value) else "infinite"
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    magnitude = math.floor(math.log10(abs(rounded)))
    if magnitude < -4:
        return f"{value:.{digits - 1}e}"
    return f"{value:.0f}" if magnitude >= digits else f"{value:.{digits - 1 - magnitude}f}"


def scientific(value: float) -> str:
    """Return 3.9e-7, 1e-10 or 0: two digits, as errors and tolerances need."""
    if not value or not math.isfinite(value):
        return significant(value)
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def count(value: int, digits: int = 3, gap: str = "") -> str:
    """Return 1.23M for 1234567; the gap stands between number and suffix."""
    if abs(value) < 1000:
        return f"{value}{gap}"
    rounded = float(f"{value:.{digits - 1}e}")
    power = min(int(math.log10(abs(rounded)) + 1e-9) // 3, len(_SUFFIXES) - 1)
    return f"{significant(rounded / 1000**power, digits)}{gap}{_SUFFIXES[power]}"


def size(value: int) -> str:
    """Return 1.23 MB for 1234567 bytes."""
    return f"{count(value, gap=' ')}B"


def milliseconds(value: float) -> str:
    """Return 1.23 ms, or microseconds below a tenth of one."""
    return f"{significant(value)} ms" if value >= 0.1 or value == 0 else f"{significant(value * 1000)} µs"


@dataclass(frozen=True)
class TimeScale:
    """Write times below one another: one unit, ``factor`` of it to the millisecond."""

    unit: str
    factor: float
    decimals: int

    def text(self, ms: float) -> str:
        """Return the number without its unit."""
        value = ms * self.factor
        text = f"{value:.{self.decimals if value < 100 else 0}f}"
        return f"<{10**-self.decimals:g}" if value and not float(text) else text

    def precise(self, ms: float) -> str:
        """Return the number with three digits whatever its size, where there is room for them."""
        return significant(ms * self.factor)


def time_scale(longest_ms: float) -> TimeScale:
    """Return the scale that gives the longest layer three digits."""
    unit, factor = ("ms", 1.0) if longest_ms >= 10 else ("µs", 1000.0)
    magnitude = math.floor(math.log10(longest_ms * factor)) if longest_ms > 0 else 0
    return TimeScale(unit, factor, min(max(0, 2 - magnitude), 3))


def percent(share: float, digits: int = 1) -> str:
    """Return 12.3 % for 0.123."""
    return "n/a" if math.isnan(share) else f"{100 * share:.{digits}f} %"


def times(speed_up: float) -> str:
    """Return 1.23x; "free" for a layer that costs nothing any more."""
    if math.isinf(speed_up):
        return "free"
    return f"{speed_up:.2f}x" if speed_up < 99.995 else f"{speed_up:.0f}x"


def shape_text(shape: Sequence[int] | None) -> str:
    """Return 64x56x56, or nothing."""
    return "x".join(map(str, shape or ()))


def shape_change(before: Sequence[int], after: Sequence[int], arrow: str = "→") -> str:
    """Return 64→32x56x56: each axis with an arrow where it changed, without a leading batch of 1."""
    if len(before) != len(after):
        return f"{shape_text(before)}{arrow}{shape_text(after)}"
    axes = [str(a) if a == b else f"{a}{arrow}{b}" for a, b in zip(before, after, strict=True)]
    return "x".join(axes[1:] if len(axes) > 1 and axes[0] == "1" else axes)


def operator(op: str, weight_shape: Sequence[int] | None) -> str:
    """Return a short name with the kernel: "conv 3x3" for conv2d; the shape beside it tells the rank."""
    short = _RANK_SUFFIX.sub("", op.removeprefix("adaptive_"))
    kernel = shape_text(tuple(weight_shape or ())[2:])
    return f"{short} {kernel}" if kernel and "conv" in op else short


def shortened(name: str, width: int) -> str:
    """Return a dotted name in at most ``width`` characters, with initials for its first parts.

    features.denseblock4.denselayer16.conv2 becomes f.d4.denselayer16.conv2: numbers stay, so that
    names remain distinct.
    """
    parts = name.split(".")
    for i in range(len(parts) - 1):
        if len(".".join(parts)) <= width:
            break
        parts[i] = re.sub(r"^(\w)\w*?(\d*)$", r"\1\2", parts[i])
    short = ".".join(parts)
    return short if len(short) <= width else "…" + short[len(short) - width + 1 :]


def listing(names: Sequence[str], limit: int) -> str:
    """Return the names between commas, at most ``limit`` of them."""
    if len(names) <= limit:
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {len(names) - limit} more"
