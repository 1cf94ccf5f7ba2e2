"""``smartc targets calibrate cpu``: measure this machine and keep the table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from smartc.cli.terminal import output
from smartc.core.errors import UserError
from smartc.targets.target import Target

if TYPE_CHECKING:
    from smartc.measuring.calibrate import Progress as Watch


def run(name: str) -> None:
    """Measure the target of a name, which must be this machine.

    Raises:
        UserError: It is no device that is measured, or the table cannot be kept.
    """
    if name != "cpu":
        fact = "only this machine can be measured"
        raise UserError(fact, where=f"targets calibrate {name}", fix="Give cpu")
    from smartc.measuring.calibrate import calibrate
    from smartc.measuring.cost_table_file import noise_text, write_table
    from smartc.targets.cost_table import NOISY

    with _bar() as watch:
        table = calibrate(watch)
    path = write_table(table)
    console = output()
    console.say(f"measured {len(table.points)} kernels on {table.processor} in {table.seconds:.0f} s: {path}")
    if table.noise >= NOISY:
        console.say(f"{noise_text(table)}.")
    if not table.has_packed:
        console.say("Without TVM there is no code that skips zero tiles: install it with pip install 'smartc[tvm]'")


def with_costs(target: Target, backends: Sequence[str] | None) -> Target:
    """Return the target with its cost table, measured now where there is none; another target as it is.

    Raises:
        UserError: There is a table and it is no use, or there is none and it cannot be kept.
    """
    if not target.is_this_machine:
        return target
    from smartc.measuring.measured_target import FIRST, with_costs

    console = Console(stderr=True, highlight=False)
    with _bar(lambda: console.print(f"smartc: {FIRST}", soft_wrap=True)) as watch:
        return with_costs(target, backends, watch)


@contextmanager
def _bar(announce: Callable[[], None] | None = None) -> Iterator[Watch]:
    """Yield what shows how many of how many steps are done, if anybody is looking; nothing before its first call."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    shown = sys.stderr.isatty()
    columns = (TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    begun = False

    def watch(done: int, total: int) -> None:
        nonlocal begun
        if not begun:
            begun = True
            if announce is not None:
                announce()
            if shown:
                bar.add_task("measuring", total=total)
                bar.start()
        if shown:
            bar.update(bar.task_ids[0], completed=done, total=total)

    try:
        yield watch
    finally:
        if begun and shown:
            bar.stop()
