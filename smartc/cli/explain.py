"""``smartc explain``: which channels can be removed, or were, and what keeps the others."""

from __future__ import annotations

import argparse
from pathlib import Path

from smartc.core.errors import UserError
from smartc.core.write_file import write_file


def run(arguments: argparse.Namespace) -> None:
    """Explain a build, or a model file."""
    if Path(arguments.model).is_dir():
        from smartc.cli.explain_build import explain_build

        if arguments.target:
            fix = "Leave --target out"
            raise UserError("a build has a target already", where=f"--target {arguments.target}", fix=fix)
        if arguments.html:
            fix = "Write the page of its report: smartc report BUILD --html FILE"
            raise UserError("a build is explained by its report", where=f"--html {arguments.html}", fix=fix)
        for option in ("outputs", "keep", "only"):
            if getattr(arguments, option):
                where = f"--{option} {getattr(arguments, option)[0]}"
                raise UserError("a build is decided already", where=where, fix="Explain the model file")
        explain_build(arguments.model, arguments.layer)
        return
    from smartc.targets.target import load_target

    target = load_target(arguments.target) if arguments.target else None
    from smartc.cli.explain_model import explain_model
    from smartc.frontend.choose_outputs import choose_outputs
    from smartc.frontend.leave_alone import leave_alone
    from smartc.frontend.model_file import load_model
    from smartc.passes.stages import run_stage

    model = load_model(
        arguments.model,
        factory=arguments.factory,
        input_shapes=arguments.input,
        allow_pickle=arguments.allow_pickle,
    )
    model = choose_outputs(model, arguments.outputs)
    model = run_stage("fold", leave_alone(model, arguments.keep, arguments.only)).model
    if arguments.html:
        from smartc.reporting.explain_page import render_explanation

        write_file(arguments.html, render_explanation(model).encode(errors="replace"))
        return
    explain_model(model, arguments.layer, target)
