"""``smartc explain``: which channels can be removed, or were, and what keeps the others."""

from __future__ import annotations

import argparse
from pathlib import Path

from smartc.core.errors import UserError


def run(arguments: argparse.Namespace) -> None:
    """Explain a build, or a model file."""
    if Path(arguments.model).is_dir():
        from smartc.cli.explain_build import explain_build

        if arguments.target:
            fix = "Leave --target out"
            raise UserError("a build has a target already", where=f"--target {arguments.target}", fix=fix)
        explain_build(arguments.model, arguments.layer)
        return
    from smartc.targets.target import load_target

    target = load_target(arguments.target) if arguments.target else None
    from smartc.cli.explain_model import explain_model
    from smartc.frontend.model_file import load_model
    from smartc.passes.stages import run_stage

    model = load_model(
        arguments.model,
        factory=arguments.factory,
        input_shapes=arguments.input,
        allow_pickle=arguments.allow_pickle,
    )
    explain_model(run_stage("fold", model).model, arguments.layer, target)
