"""Granularity: what a mask removes at a time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from smartc.core.errors import Argument, UserError
from smartc.targets.target import Target

CHOICES = "auto, channel, block, RxC such as 16x8, RxC/shared, or n:m such as 2:4"


@dataclass(frozen=True)
class Granularity:
    """What one unit of a mask is.

    Attributes:
        kind: ``channel``; ``block``, tiles of output x input channels; or ``n:m``, single weights.
        rows: Output channels of a block; the n of n:m, how many of a group stay.
        columns: Input channels of a block; the m of n:m, neighbours along the input channels.
        per_tap: Whether the kernel positions of a block are masked one by one.
    """

    kind: Literal["channel", "block", "n:m"]
    rows: int = 0
    columns: int = 0
    per_tap: bool = True

    def __str__(self) -> str:
        """Return what the user writes for it."""
        if self.kind == "channel":
            return "channel"
        if self.kind == "n:m":
            return f"{self.rows}:{self.columns}"
        return f"{self.rows}x{self.columns}" + ("" if self.per_tap else "/shared")

    @property
    def fixed_share(self) -> float | None:
        """Return the share of the weights that is removed whatever the budget; None where the budget decides."""
        return 1 - self.rows / self.columns if self.kind == "n:m" else None


def parse_granularity(text: str, target: Target) -> Granularity:
    """Return the granularity that the user asked for.

    ``auto`` is what pays on the target: blocks where it skips zero tiles, else channels.

    Raises:
        UserError: It is none of those.
    """
    if text == "channel" or (text == "auto" and not target.sparsity.zero_tile_skip):
        return Granularity("channel")
    if text in ("auto", "block"):
        return Granularity("block", target.array.cols, target.array.rows, target.sparsity.per_kernel_position)
    block = re.fullmatch(r"(\d{1,4})x(\d{1,4})(/shared)?", text, re.ASCII)
    if block and int(block[1]) and int(block[2]):
        return Granularity("block", int(block[1]), int(block[2]), not block[3])
    pattern = re.fullmatch(r"(\d{1,3}):(\d{1,3})", text, re.ASCII)
    if pattern and 0 < int(pattern[1]) < int(pattern[2]):
        return Granularity("n:m", int(pattern[1]), int(pattern[2]))
    raise UserError("not known", where=Argument("granularity", text), fix=f"Choose one of {CHOICES}")
