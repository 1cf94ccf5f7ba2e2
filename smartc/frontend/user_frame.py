"""The line of the user's own code that an error passed through."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import torch

# Ended by a separator: torchvision lies beside torch.
_PACKAGES = tuple(f"{folder}{os.sep}" for folder in (Path(torch.__file__).parent, Path(__file__).parents[1]))


def user_frame(error: BaseException) -> traceback.FrameSummary | None:
    """Return the innermost place outside torch and smartc that an error passed through, None where there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith((*_PACKAGES, "<"))]
    return own[-1] if own else None
