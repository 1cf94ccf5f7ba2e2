"""``smartc verify``: a build is what was written, and its files compute the same."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from smartc.artifact.manifest import check_complete, read_manifest
from smartc.cli.terminal import output, progress
from smartc.core.errors import InternalError
from smartc.reporting.facts import verification_text
from smartc.results.figures import Verification


def run(arguments: argparse.Namespace) -> None:
    """Check hashes, then outputs."""
    check_complete(arguments.build)
    console = output()
    count = len(read_manifest(arguments.build)["files"])
    console.say(f"files ok: {count} as they were written")
    with progress("verifying"):
        from smartc.artifact.verify_build import verify_build

        found = verify_build(arguments.build)
    for one in found:
        verdict = "ok" if one.passed else "FAILED"
        console.say(f"{one.stage} {verdict}: {verification_text(one)}")
    _raise_failed(found, arguments.build)


def _raise_failed(found: Sequence[Verification], folder: str) -> None:
    """Raise if a stage is off by more than its tolerance."""
    failed = [one.stage for one in found if not one.passed]
    if failed:
        raise InternalError(f"{', '.join(failed)} computes something else than the original", where=folder)
