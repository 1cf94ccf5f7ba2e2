"""A weight that a mask acts on."""

from __future__ import annotations

from dataclasses import dataclass

from smartc.masks.layouts import MaskLayout


@dataclass(frozen=True, eq=False)
class MaskedWeight:
    """A weight and how the units of a mask lie in it.

    Attributes:
        name: The parameter's name.
        layout: Where each unit acts.
        first: The number of its first unit.
    """

    name: str
    layout: MaskLayout
    first: int

    @property
    def part(self) -> slice:
        """Return the weight's units among all."""
        return slice(self.first, self.first + self.layout.count)
