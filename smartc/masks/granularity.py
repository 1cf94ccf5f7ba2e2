"""Granularity: what a mask removes at a time."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from smartc.analysis.weight_use import WeightUse
from smartc.core.errors import Argument, UserError
from smartc.masks.layouts import MaskLayout, Pattern, Tiles
from smartc.targets.target import Target

CHOICES = "auto, channel, block, RxC such as 16x8, RxC/shared, or n:m such as 2:4"
# A weight of fewer blocks than this is kept whole: a stem's few inputs, a head's few classes.
FEWEST_BLOCKS = 32


class Granularity(ABC):
    """What one unit of a mask is; its text is what the user writes for it.

    Attributes:
        decision: The decision that a report states for a layer that lost units.
        spans_weights: Whether a unit lies in several weights at once.
        gains_from_order: Whether channels that change places can bring the zeros of units into fewer tiles.
        holds_channels: Whether no channel may leave its place, since units are made of neighbours.
    """

    decision: ClassVar[Literal["channel", "block", "n:m"]]
    spans_weights: ClassVar[bool] = False
    gains_from_order: ClassVar[bool] = False
    holds_channels: ClassVar[bool] = False

    @property
    @abstractmethod
    def plural(self) -> str:
        """Return the name of several units, as reports write it."""

    @property
    def fixed_share(self) -> float | None:
        """Return the share of the weights that is removed whatever the budget; None where the budget decides."""
        return None


@dataclass(frozen=True)
class ChannelGranularity(Granularity):
    """Whole channels: each lies in all weights that produce it or read it."""

    decision = "channel"
    spans_weights = True

    def __str__(self) -> str:
        """Return ``channel``."""
        return "channel"

    @property
    def plural(self) -> str:
        """Return ``channels``."""
        return "channels"


class WeightGranularity(Granularity):
    """Parts of single weights."""

    @abstractmethod
    def layout(self, shape: tuple[int, ...], use: WeightUse) -> MaskLayout:
        """Return the layout of the units in a weight.

        Args:
            shape: The weight's shape.
            use: How the weight is multiplied by.
        """

    @abstractmethod
    def refusal(self, layout: MaskLayout) -> str | None:
        """Return the reason to keep a weight whole, given its units; None where it can be masked."""


@dataclass(frozen=True)
class BlockGranularity(WeightGranularity):
    """Tiles of output x input channels.

    Attributes:
        rows: Output channels of a block.
        columns: Input channels of a block.
        per_tap: Whether the kernel positions of a block are masked one by one.
    """

    rows: int
    columns: int
    per_tap: bool = True

    decision = "block"
    gains_from_order = True

    def __str__(self) -> str:
        """Return ``RxC`` or ``RxC/shared``."""
        return f"{self.rows}x{self.columns}" + ("" if self.per_tap else "/shared")

    @property
    def plural(self) -> str:
        """Return ``blocks of RxC``."""
        return f"blocks of {self}"

    def layout(self, shape: tuple[int, ...], use: WeightUse) -> Tiles:
        """Return the tiles of a weight."""
        return Tiles(shape, self.rows, self.columns, self.per_tap, use.groups, use.transposed)

    def refusal(self, layout: MaskLayout) -> str | None:
        """Return the reason to keep a weight of few blocks whole."""
        if layout.count >= FEWEST_BLOCKS:
            return None
        return f"its {layout.count} {self.plural} are too few: to cut them saves little and can cost a class"


@dataclass(frozen=True)
class PatternGranularity(WeightGranularity):
    """Single weights, of which as many stay in each group of neighbours along the input channels: n:m.

    Attributes:
        kept: The weights of a group that stay, the n of n:m.
        group: The weights of a group, the m of n:m.
    """

    kept: int
    group: int

    decision = "n:m"
    holds_channels = True

    def __str__(self) -> str:
        """Return ``n:m``."""
        return f"{self.kept}:{self.group}"

    @property
    def plural(self) -> str:
        """Return ``weights``."""
        return "weights"

    @property
    def fixed_share(self) -> float:
        """Return the share of the weights that is removed."""
        return 1 - self.kept / self.group

    def layout(self, shape: tuple[int, ...], use: WeightUse) -> Pattern:
        """Return the groups of a weight."""
        return Pattern(shape, self.group, use.transposed)

    def refusal(self, layout: MaskLayout) -> str | None:
        """Return the reason to keep a weight without a whole group as it is."""
        return None if layout.count else f"has fewer than {self.group} input channels"


def parse_granularity(text: str, target: Target) -> Granularity:
    """Return the granularity that the user asked for.

    ``auto`` is what pays on the target: blocks where it skips zero tiles, else channels.

    Raises:
        UserError: It is none of those.
    """
    if text == "channel" or (text == "auto" and not target.sparsity.zero_tile_skip):
        return ChannelGranularity()
    if text in ("auto", "block"):
        return BlockGranularity(target.array.cols, target.array.rows, target.sparsity.per_kernel_position)
    block = re.fullmatch(r"(\d{1,4})x(\d{1,4})(/shared)?", text, re.ASCII)
    if block and int(block[1]) and int(block[2]):
        return BlockGranularity(int(block[1]), int(block[2]), not block[3])
    pattern = re.fullmatch(r"(\d{1,3}):(\d{1,3})", text, re.ASCII)
    if pattern and 0 < int(pattern[1]) < int(pattern[2]):
        return PatternGranularity(int(pattern[1]), int(pattern[2]))
    raise UserError("not known", where=Argument("granularity", text), fix=f"Choose one of {CHOICES}")
