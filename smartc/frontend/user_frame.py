"""The line of the user's own code among those that ran."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Iterable
from pathlib import Path

import torch

# Ended by a separator: torchvision lies beside torch.
_FOLDERS = (Path(torch.__file__).parent, Path(__file__).parents[1], Path(logging.__file__).parent)
_NOT_THEIRS = (*(f"{folder}{os.sep}" for folder in _FOLDERS), "<")


def user_frame(frames: Iterable[traceback.FrameSummary]) -> traceback.FrameSummary | None:
    """Return the innermost place outside torch and smartc, None where there is none.

    Args:
        frames: The outermost first.
    """
    own = [frame for frame in frames if not frame.filename.startswith(_NOT_THEIRS)]
    return own[-1] if own else None


def user_line(frames: Iterable[traceback.FrameSummary]) -> str:
    """Return the same as `` (at file:line, in name)``; nothing if there is none."""
    frame = user_frame(frames)
    return "" if frame is None else f" (at {frame.filename}:{frame.lineno}, in {frame.name})"
