"""``smartc compile``: a model file goes in, a build folder and a report come out."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING

from smartc.artifact.write import check_writable
from smartc.cli.calibrate import with_costs
from smartc.cli.report import read_report
from smartc.cli.terminal import learning_bar, output, progress
from smartc.core.errors import UserError
from smartc.targets.target import Target, load_target

if TYPE_CHECKING:
    from smartc.artifact.compiled import Compiled
    from smartc.learning.learn import Watch
    from smartc.learning.training.settings import Settings

LEARNING = ("preprocess", "train", "steps", "batch", "seed", "precision", "resume")


def run(arguments: argparse.Namespace) -> None:
    """Compile; whatever can be wrong is looked for before the work begins."""
    sparsity = _share(arguments.sparsity)
    target = load_target(arguments.target)
    check_writable(arguments.output)
    _check_replaceable(arguments)
    _check_learning(arguments)
    backends = None if arguments.backend is None else _listed(arguments.backend)
    target = with_costs(target, backends)
    shown = nullcontext() if arguments.quiet else progress("compiling")
    with shown, learning_bar(silent=arguments.quiet) as watch:
        # From here on torch is needed, which takes seconds to import.
        from smartc.learning.training.distributed import in_torchrun, is_first
        from smartc.selection.budget import parse_budget

        parse_budget(sparsity, arguments.latency, arguments.macs, arguments.bytes)
        settings = _settings(arguments)
        with _interruptible(settings):
            compiled = _compiled(arguments, target, sparsity, settings, watch)
        if in_torchrun() and not is_first():
            return
        compiled.save(arguments.output)
        if settings.checkpoint is not None:
            settings.checkpoint.unlink(missing_ok=True)
    if not arguments.quiet:
        _show(arguments.output)


def _check_replaceable(arguments: argparse.Namespace) -> None:
    """Fail if a build that took a training would be replaced, and nobody said that it may.

    Raises:
        UserError: One would be.
    """
    if arguments.force or arguments.resume or not (Path(arguments.output) / "report.json").exists():
        return
    try:
        learning = read_report(arguments.output).learning
    except UserError:
        return  # a build that was damaged is worth no training
    if learning is not None:
        fact = f"it holds a build that was trained for {learning.steps} steps, which would be replaced"
        fix = "Add --force to replace it, or choose another folder"
        raise UserError(fact, where=arguments.output, fix=fix)


@contextmanager
def _interruptible(settings: Settings) -> Iterator[None]:
    """Name the checkpoint to go on from where the user interrupts a training.

    Raises:
        KeyboardInterrupt: The user interrupts.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        path = settings.checkpoint
        if path is None or not path.exists():
            raise
        text = f"interrupted: {path} holds the training so far. Add --resume to the same command to go on with it."
        raise KeyboardInterrupt(text) from stop


def _compiled(
    arguments: argparse.Namespace, target: Target, sparsity: float | None, settings: Settings, watch: Watch
) -> Compiled:
    """Load the model and compile it; of several processes the first alone lowers, evaluates and dumps."""
    from smartc.compile import compile
    from smartc.decision.dump import Dump
    from smartc.frontend.model_file import load_model
    from smartc.learning.training.distributed import is_first

    backends = None if arguments.backend is None else _listed(arguments.backend)
    dump = Dump.to(arguments.dump if is_first() else None)
    with dump.listening():
        model = load_model(
            arguments.model,
            factory=arguments.factory,
            input_shapes=arguments.input,
            allow_pickle=arguments.allow_pickle,
        )
    return compile(
        model,
        target=target,
        sparsity=sparsity,
        latency=arguments.latency,
        macs=arguments.macs,
        bytes=arguments.bytes,
        granularity=arguments.granularity,
        learner=arguments.learner,
        data=arguments.data,
        preprocess=arguments.preprocess,
        train=arguments.train,
        settings=settings,
        backends=backends if is_first() else (),
        evaluate=arguments.eval if is_first() else None,
        watch=watch,
        dump=dump,
        min_accuracy=_limit(arguments.min_accuracy, "--min-accuracy") if is_first() else None,
        min_agreement=_limit(arguments.min_agreement, "--min-agreement") if is_first() else None,
        output_names=None if arguments.output_names is None else _listed(arguments.output_names),
        **{part: getattr(arguments, part) for part in ("outputs", "keep", "only", "uniform", "approximate")},
    )


def _check_learning(arguments: argparse.Namespace) -> None:
    """Fail if something is said about learning and there is nothing to learn from."""
    given = [name for name in LEARNING if getattr(arguments, name)]
    if given and arguments.data is None:
        raise UserError("there is nothing to learn from", where=f"--{given[0]}", fix="Add --data")


def _settings(arguments: argparse.Namespace) -> Settings:
    """Return how learning goes; its state is kept beside the build until that is written."""
    from smartc.learning.training.settings import Settings

    folder = Path(arguments.output)
    return Settings(
        steps=_number(arguments.steps, "--steps"),
        batch=_number(arguments.batch, "--batch"),
        seed=_number(arguments.seed, "--seed") or 0,
        precision=arguments.precision or "float32",
        checkpoint=None if arguments.data is None else folder.with_name(f"{folder.name}.checkpoint"),
        resume=arguments.resume,
    )


def _number(text: str | None, option: str) -> int | None:
    """Return the whole number that an option gives."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise UserError("not a whole number", where=f"{option} {text}", fix="Give 0 or more")
    return int(text)


def _limit(text: str | None, option: str) -> float | None:
    """Return the number that a limit of the user's is."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise UserError("not a number", where=f"{option} {text}", fix="Give a number such as 0.9") from error


def _share(text: str | None) -> float | None:
    """Return the number that ``--sparsity`` gives."""
    if text is None:
        return None
    try:
        share = float(text)
    except ValueError:
        share = nan
    if 0 <= share < 1:
        return share
    fix = "Give a number from 0 to less than 1"
    raise UserError("not a share of channels", where=f"--sparsity {text}", fix=fix)


def _listed(text: str) -> tuple[str, ...]:
    """Return the names in a list with commas."""
    return tuple(name.strip() for name in text.split(","))


def _show(folder: str) -> None:
    """Print the report as it was written, and where it is."""
    from smartc.reporting.terminal import render_terminal

    console = output()
    render_terminal(read_report(folder), console)
    console.say(f"\nThe build is in {folder}")
