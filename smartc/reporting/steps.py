"""The steps of learning as the x axis of pictures that stand below one another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from smartc.reporting.chart import CHARACTER, WIDTH, layer_name, round_step
from smartc.results.figures import Learning, LearningMoment

# Pixels on the left for the numbers of the y axis, and on the right for the last figure.
_NUMBERS, RIGHT = 64, 76
# More moments than this would not be told apart.
_MOST_MOMENTS = 400


@dataclass(frozen=True)
class StepAxis:
    """Hold where steps stand, in pixels; ``ended`` is the step at which the search did."""

    left: float
    first: int
    last: int
    ended: int

    @classmethod
    def of(cls, learning: Learning) -> StepAxis:
        """Return the axis of all moments, with room for the layers' names on its left."""
        steps = [moment.step for moment in learning.curve]
        names = max((len(layer_name(name)) for name in learning.layers), default=0)
        return cls(max(names * CHARACTER + 24, _NUMBERS), min(steps), max(steps), learning.search_steps)

    @property
    def right(self) -> float:
        """Return where the axis ends."""
        return WIDTH - RIGHT

    def x(self, step: float) -> float:
        """Return where a step stands."""
        length = self.last - self.first
        return self.left + (self.right - self.left) * ((step - self.first) / length if length else 0.0)

    def labels(self, y: int) -> Iterator[str]:
        """Yield the numbers of the axis, below ``y``."""
        span = self.last - self.first
        step = max(round(round_step(span)), 1) if span else 1
        for number in range(-(-self.first // step) * step, self.last + 1, step):
            yield f'<text class="quiet" x="{self.x(number):.1f}" y="{y + 16}" text-anchor="middle">{number}</text>'
        yield f'<text class="quiet" x="{self.right + 18:.1f}" y="{y + 16}">step</text>'

    def end_of_search(self, top: int, bottom: int, label: bool = False) -> Iterator[str]:
        """Yield the line where the search ended, if that was within the picture, with its label above it."""
        if self.ended < 1 or not self.first <= self.ended <= self.last + 1:
            return
        x = self.x(min(self.ended, self.last))
        yield f'<line class="end" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'
        if label:
            anchor = "end" if x > (self.left + self.right) / 2 else "start"
            text = f"the search ended at step {self.ended}"
            yield f'<text class="quiet" x="{x:.1f}" y="{top - 6}" text-anchor="{anchor}">{text}</text>'


def moments(learning: Learning) -> Sequence[LearningMoment]:
    """Return the moments to draw, by step: all of them, or evenly some and the last."""
    ordered = sorted(learning.curve, key=lambda moment: moment.step)
    every = math.ceil(len(ordered) / _MOST_MOMENTS)
    return ordered if every <= 1 else [*ordered[:-1:every], ordered[-1]]
