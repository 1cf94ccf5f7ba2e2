"""The terminal that commands print on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Event, Thread
from typing import TYPE_CHECKING, NoReturn, Protocol

from rich.console import Console

from smartc.core.brief import harmless
from smartc.results.formats import percent, significant

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.status import Status

# Into a file or a pipe, where there is no width to fit.
_WIDTH = 120
# The bar takes what the figures beside it leave on a terminal that is narrower than so many columns.
_ROOMY, _WIDE_BAR, _NARROW_BAR = 100, 24, 8

# Into a file or a pipe there is a line of progress after so many seconds.
MINUTE_S = 60.0

# What the next line of progress says, last; None where no lines are printed.
_doing: ContextVar[list[str] | None] = ContextVar("doing", default=None)
_spinner: ContextVar[Status | None] = ContextVar("spinner", default=None)


class SearchState(Protocol):
    """Where learning stands after some steps; ``fractional`` is None where nobody looked."""

    @property
    def step(self) -> int:
        """Return the steps done."""

    @property
    def loss(self) -> float | None:
        """Return the loss of the last step."""

    @property
    def temperature(self) -> float | None:
        """Return the temperature of the soft masks; None where masks are hard."""

    @property
    def fractional(self) -> float | None:
        """Return the share of the masks that are neither kept nor removed."""


Show = Callable[[SearchState, int, float], None]


class Output(Console):
    """Standard output, on which no text is an order; a broken pipe is left to the command line."""

    def say(self, text: str) -> None:
        """Print one line as it is, however long."""
        self.print(harmless(text), soft_wrap=True)

    def on_broken_pipe(self) -> NoReturn:
        """Raise it."""
        raise BrokenPipeError


def output() -> Output:
    """Return the console for standard output."""
    width = None if sys.stdout.isatty() else _WIDTH
    # Names of folders and layers go into its tables, and may look like markup.
    return Output(width=width, highlight=False, markup=False, emoji=False)


@contextmanager
def progress(doing: str) -> Iterator[None]:
    """Show that something is going on for the time of a block; into a file or a pipe, by a line a minute."""
    if not sys.stderr.isatty():
        with _lines(doing):
            yield
        return
    with Console(stderr=True).status(doing) as spinner:
        token = _spinner.set(spinner)
        try:
            yield
        finally:
            _spinner.reset(token)


@contextmanager
def learning_bar(silent: bool = False) -> Iterator[Show]:
    """Yield what shows how far learning is, in place of the spinner or the lines of ``progress``.

    It takes a moment, the number of all steps, and the share of the budget that is met, and draws
    nothing before its first call.  ``silent`` draws nothing at all.
    """
    if silent:
        yield lambda moment, steps, budget: None
        return
    if not sys.stderr.isatty():
        yield _learning_line
        return
    bar = _LearningBar()
    try:
        yield bar.show
    finally:
        bar.close()


@contextmanager
def _lines(doing: str) -> Iterator[None]:
    """Print every minute what is going on, for as long as a block runs."""
    done, begun = Event(), time.monotonic()
    said = [doing]
    token = _doing.set(said)

    def tell() -> None:
        while not done.wait(MINUTE_S):
            print(f"smartc: {said[-1]}, {(time.monotonic() - begun) / 60:.0f} min", file=sys.stderr, flush=True)

    thread = Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        _doing.reset(token)


def _learning_line(moment: SearchState, steps: int, budget: float) -> None:
    """Have the next line say how far learning is."""
    said = _doing.get()
    if said is not None:
        loss = "" if moment.loss is None else f", loss {significant(moment.loss)}"
        said.append(f"learning: step {moment.step + 1} of {steps}{loss}, budget {percent(budget, 0)}")
        del said[:-1]
        if moment.step + 1 >= steps:
            said.append("compiling")


@contextmanager
def samples_bar() -> Iterator[Callable[[int, int], None]]:
    """Yield what shows how many of how many samples are done, if anybody is looking; nothing before its first call."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(_WIDE_BAR), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)

    def show(done: int, total: int) -> None:
        if not bar.task_ids:
            bar.add_task("samples", total=total)
            bar.start()
        bar.update(bar.task_ids[0], completed=done)

    try:
        yield show
    finally:
        bar.stop()


class _LearningBar:
    """A bar with figures on standard error."""

    def __init__(self) -> None:
        """Wait for the first moment."""
        self.progress: Progress | None = None
        self.paused: Status | None = None
        self.figures: dict[str, str] = {}

    def show(self, moment: SearchState, steps: int, budget: float) -> None:
        """Show a moment of so many steps, at which a share of the budget is met."""
        self._take(moment, budget)
        figures = ", ".join(self.figures.values())
        if self.progress is None:
            # Two that redraw the same line would overwrite each other.
            self.paused = _spinner.get()
            if self.paused is not None:
                self.paused.stop()
            self.progress = _new_progress()
            self.progress.add_task("learning", total=steps, completed=moment.step, figures=figures)
            self.progress.start()
        self.progress.update(self.progress.task_ids[0], total=steps, completed=moment.step, figures=figures)

    def close(self) -> None:
        """Remove the bar, and let the spinner go on if its block does."""
        if self.progress is not None:
            self.progress.stop()
        if self.paused is not None and self.paused is _spinner.get():
            self.paused.start()

    def _take(self, moment: SearchState, budget: float) -> None:
        """Replace the figures that are known; masks that are hard have no temperature any more."""
        known = {
            "loss": None if moment.loss is None else f"loss {significant(moment.loss)}",
            "budget": f"budget {percent(budget, 0)}",
            "temperature": None if moment.temperature is None else f"temp. {significant(moment.temperature)}",
            "fractional": None if moment.fractional is None else f"{percent(moment.fractional)} fractional",
        }
        self.figures = {name: text for name in known if (text := known[name] or self.figures.get(name))}
        if moment.temperature is None:
            self.figures.pop("temperature", None)


def _new_progress() -> Progress:
    """Return a bar with steps, time left and figures, which take more lines where one is too short for them."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    console = Console(stderr=True)
    bar = BarColumn(_WIDE_BAR if console.width >= _ROOMY else _NARROW_BAR)
    figures = TextColumn("{task.fields[figures]}", markup=False, table_column=Column(no_wrap=False))
    return Progress(bar, MofNCompleteColumn(), TimeRemainingColumn(), figures, console=console, transient=True)
