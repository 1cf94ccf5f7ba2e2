"""``smartc verify``: a build is what was written, and its files compute the same."""

from __future__ import annotations

import argparse

from smartc.artifact.manifest import check_complete, read_manifest
from smartc.cli.terminal import output, progress
from smartc.reporting.facts import verification_text


def run(arguments: argparse.Namespace) -> None:
    """Check hashes, then outputs."""
    check_complete(arguments.build)
    console = output()
    count = len(read_manifest(arguments.build)["files"])
    console.say(f"files ok: {count} as they were written")
    with progress("verifying"):
        from smartc.artifact.verify_build import verify_build

        found = verify_build(arguments.build)
    for one in found.stages.values():
        verdict = "ok" if one.passed else "FAILED"
        console.say(f"{one.stage} {verdict}: {verification_text(one)}")
    for remark in found.remarks:
        console.say(remark)
    found.check(arguments.build)
