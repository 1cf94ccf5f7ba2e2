"""What a report says about how masks and weights were learned."""

from __future__ import annotations

from html import escape

from smartc.reporting.curves import learning_curves
from smartc.reporting.density_chart import density_chart
from smartc.results.figures import Learning
from smartc.results.formats import percent, significant


def learning_texts(learning: Learning) -> tuple[str, ...]:
    """Return the lines on a learner: its steps and data, its objective and loss, its fractional masks."""
    about = f"{_data(learning)}, seed {learning.seed}"
    if not learning.steps:
        return (f"{learning.learner}, no training steps{about}",)
    lines = [
        f"{learning.learner}, {_steps(learning.steps)} of {learning.batch} samples{about}",
        f"{learning.objective}{_loss(learning)}, in {learning.precision}",
    ]
    if learning.search_steps:
        fractional = f"{percent(learning.fractional)} of them fractional just before"
        lines.append(f"masks made hard after {_steps(learning.search_steps)}, {fractional}")
    return tuple(lines)


def learning_section(learning: Learning | None) -> str:
    """Return the section of the HTML report with the pictures of learning, where there is anything to draw."""
    if learning is None or not learning.curve:
        return ""
    said = escape("; ".join(learning_texts(learning)))
    return "\n".join(
        [
            "<section>",
            "<h2>Learning</h2>",
            f'<p class="quiet">{said}.</p>',
            '<p class="legend" aria-hidden="true"><span>nothing kept<i class="ramp"></i>everything kept</span></p>',
            f'<div class="scroll chart">\n{learning_curves(learning)}\n{density_chart(learning)}\n</div>',
            "</section>",
        ]
    )


def _steps(number: int) -> str:
    """Return a number of steps."""
    return f"{number} step{'' if number == 1 else 's'}"


def _data(learning: Learning) -> str:
    """Return a text on the samples that were learned from."""
    if not learning.source:
        return ""
    samples = "" if learning.samples is None else f"{learning.samples} "
    return f", on {samples}samples of {learning.source}"


def _loss(learning: Learning) -> str:
    """Return the first and the last loss that are known."""
    losses = learning.losses
    if not losses:
        return ""
    if len(losses) == 1:
        return f", loss {significant(losses[0])}"
    return f", loss {significant(losses[0])} → {significant(losses[-1])}"
