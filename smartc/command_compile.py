"""``smartc compile``: a model file goes in, a build folder and a report come out."""

from __future__ import annotations

import argparse
from math import nan

from smartc.artifact import check_writable
from smartc.errors import UserError
from smartc.targets.target import load_target
from smartc.terminal import output, progress


def run(arguments: argparse.Namespace) -> None:
    """Compile; whatever can be wrong is looked for before the work begins."""
    sparsity = _share(arguments.sparsity)
    target = load_target(arguments.target)
    check_writable(arguments.output)
    with progress("compiling"):
        # From here on torch is needed, which takes seconds to import.
        from smartc.choose import parse_budget
        from smartc.model_file import load_model
        from smartc.pipeline import compile

        parse_budget(sparsity, arguments.latency)
        model = load_model(
            arguments.model,
            factory=arguments.factory,
            input_shapes=arguments.input,
            allow_pickle=arguments.allow_pickle,
        )
        compiled = compile(
            model,
            target=target,
            sparsity=sparsity,
            latency=arguments.latency,
            granularity=arguments.granularity,
            learner=arguments.learner,
            backends=_backends(arguments.backend),
            evaluate=arguments.eval,
        )
        compiled.save(arguments.output)
    _show(arguments.output)


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


def _backends(text: str) -> tuple[str, ...]:
    """Return the names in a list with commas."""
    return tuple(name.strip() for name in text.split(","))


def _show(folder: str) -> None:
    """Print the report as it was written, and where it is."""
    from smartc.command_report import read_report
    from smartc.report_terminal import render_terminal

    console = output()
    render_terminal(read_report(folder), console)
    console.say(f"\nThe build is in {folder}")
