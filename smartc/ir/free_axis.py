"""An axis of an input whose size is free, beside the batch."""

from __future__ import annotations

from typing import NamedTuple


class FreeAxis(NamedTuple):
    """An axis of an input, not the batch's, that may have another size than the example's; the least and the most."""

    axis: int
    least: int | None = None
    most: int | None = None
