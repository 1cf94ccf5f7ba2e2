"""``smartc apply``: the result of a build as weights for the user's own class."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from smartc.cli.terminal import output, progress
from smartc.core.errors import UserError
from smartc.core.write_file import write_file
from smartc.results.formats import listing

if TYPE_CHECKING:
    from torch import nn

_NAMES_SHOWN = 3


def run(arguments: argparse.Namespace) -> None:
    """Make the user's module as small as the build, prove that it computes the same, and write its weights."""
    folder = _build_of(arguments.build)
    with progress("applying"):
        from smartc.artifact.compiled import load
        from smartc.resizing.resize import resize
        from smartc.resizing.weights_file import to_weights_file

        build = load(folder)
        smaller = resize(_module(arguments), build.model, build.plan, own_weights=arguments.weights is not None)
        write_file(arguments.output, to_weights_file(smaller.module, smaller.sizes, build.plan.sha256))
    console = output()
    layers = sum(1 for sizes in smaller.sizes.values() if sizes)
    name = type(smaller.module).__name__
    console.say(f"{name}: {layers} layers have other sizes; it computes what {folder / 'model.pt2'} does")
    console.say(f"  largest relative difference {smaller.error:.1e}, on seeded inputs")
    if smaller.unread:
        names = listing(smaller.unread, _NAMES_SHOWN)
        console.say(f"  not read by the build, and as in {arguments.weights or 'a new module'}: {names}")
    console.say(f"written: {arguments.output}. Load it by")
    module, _, factory = arguments.model.partition(":")
    console.say(f"  import smartc; from {module} import {factory}")
    console.say(f"  model = smartc.resized({factory}(), {arguments.output!r})")


def _build_of(path: str) -> Path:
    """Return the folder of a build that is named by itself or by its plan.

    Raises:
        UserError: A plan is named that no model lies beside.
    """
    place = Path(path)
    if place.is_dir() or place.name != "plan.json":
        return place
    if not place.with_name("model.pt2").exists():
        fact = "there is no model.pt2 beside it, which the result is compared with"
        raise UserError(fact, where=path, fix="Keep the files of a build together")
    return place.parent


def _module(arguments: argparse.Namespace) -> nn.Module:
    """Return the user's module, as it was before, with the weights of a file where one is given."""
    from smartc.frontend.model_file import load_module
    from smartc.frontend.model_state import made_by

    if arguments.weights is None:
        return made_by(arguments.model, arguments.model)
    return load_module(arguments.weights, arguments.model, allow_pickle=arguments.allow_pickle)
