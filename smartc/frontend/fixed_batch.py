"""Say in plain words why a model has a fixed batch, and which line of the user's fixes it."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from smartc.core.errors import first_line
from smartc.frontend.user_frame import user_line

# Told of each size that is found to be a number, while the user's line that makes it one is being run.
_LOGGER, _FOUND = "torch.fx.experimental.symbolic_shapes", "set_replacement"
_OURS = str(Path(__file__).parents[1])


@contextmanager
def noting_fixed_sizes(lines: list[str]) -> Iterator[None]:
    """Add to a list the user's line for each free size that becomes a number within the block."""

    def note(record: logging.LogRecord) -> bool:
        """Take down the line, where a record says that a size is one number, and let nothing be printed."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        if str(record.msg).startswith(_FOUND) and len(arguments) > 1 and str(arguments[1]).isdecimal():
            lines.append(user_line(_since_capture(traceback.extract_stack())))
        return False

    logger = logging.getLogger(_LOGGER)
    level = logger.level
    logger.addFilter(note)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeFilter(note)
        logger.setLevel(level)


def _since_capture(frames: Sequence[traceback.FrameSummary]) -> Sequence[traceback.FrameSummary]:
    """Return the part of a stack that smartc's own capture has called."""
    ours = [place for place, frame in enumerate(frames) if frame.filename.startswith(_OURS)]
    last = max((place for place in ours if frames[place].filename != __file__), default=len(frames))
    return frames[last:]


def why_fixed(error: BaseException, lines: Iterable[str], batch: int) -> str:
    """Return a remark that a model's batch is fixed, and why.

    Args:
        error: What torch.export raised of a free batch.
        lines: The user's lines that made a size a number.
        batch: The example's.
    """
    text = str(error)
    if not text.startswith("Constraints violated"):
        return f"the batch is fixed to the example's: {first_line(error)}"
    if "specialized it to be a constant" in text:
        return f"the model fixes its batch{next(iter(lines), '')}; it is compiled for a batch of {batch}"
    return f"the model does not take every batch; it is compiled for a batch of {batch}"
