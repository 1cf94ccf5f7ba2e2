"""Silence for libraries that talk about their own internals."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

# The last says that torchvision is not there, which it need not be.
_TALKATIVE = ("torch.export", "torch.fx.experimental.symbolic_shapes", "torch.onnx")


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what PyTorch's exporters say about their own internals; they print the graphs that they refuse."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
