"""The result of a compilation: a callable model with its plan and report, to be saved and loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import fx

from smartc.decision.plan import Plan
from smartc.ir.traced_model import TracedModel
from smartc.results.report import Report


@dataclass(frozen=True, eq=False)
class Compiled:
    """A compiled model.

    Attributes:
        model: The smaller model.
        plan: What was kept.
        prove: Checks the model against the masked original and returns the report; run once, before
            the module, the report or a file is handed out.
        lowered: Per file name, what writes it; None if compilation stopped before lowering.
        lower: Does what is left of it.
    """

    model: TracedModel
    plan: Plan
    prove: Callable[[], Report]
    lowered: Mapping[str, Callable[[Path], None]] | None
    lower: Callable[[], Compiled] | None = None

    @cached_property
    def report(self) -> Report:
        """Return the report, layer by layer."""
        return self.prove()

    @cached_property
    def module(self) -> fx.GraphModule:
        """Return an ``nn.Module`` with the original's inputs and output structure."""
        _ = self.report
        return self.model.graph_module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the compiled model."""
        return self.module(*args, **kwargs)

    def save(self, folder: str | Path) -> None:
        """Write the artifact: all files or, on any failure, none.

        Raises:
            UserError: The folder is not ours to replace, or the disk is full or read-only.
        """
        from smartc.artifact.write import check_writable, write_artifact
        from smartc.reporting.html_page import render_html

        folder = Path(folder)
        check_writable(folder)
        if self.lowered is None:
            assert self.lower is not None
            self.lower().save(folder)
            return
        report = self.report
        plan = json.dumps(self.plan.to_dict(), indent=1)
        files: dict[str, Callable[[Path], None]] = {
            **self.lowered,
            "plan.json": lambda path: _write(path, plan + "\n"),
            "report.json": lambda path: _with_sizes(report, path).save(path),
            "report.html": lambda path: _write(path, render_html(_with_sizes(report, path))),
        }
        about = {
            "model": dict(self.plan.model),
            "target": self.plan.target["target"]["name"],
            "plan": self.plan.sha256,
        }
        write_artifact(folder, files, about)


def load(folder: str | Path) -> Compiled:
    """Return the compiled model of an artifact folder.

    Raises:
        UserError: The folder is no artifact of smartc, or a file in it is missing or changed.
    """
    from smartc.artifact.manifest import REQUIRED, check_files, read_manifest
    from smartc.frontend.model_file import load_model

    folder = Path(folder)
    check_files(folder)
    check_files(folder, *REQUIRED)
    listed = read_manifest(folder)["files"]
    plan = Plan.from_dict(json.loads((folder / "plan.json").read_text(encoding="utf-8")), str(folder / "plan.json"))
    report = Report.load(folder / "report.json")
    model = replace(load_model(folder / "model.pt2"), name=report.model)
    contents = {path.name: path.read_bytes() for path in _lowered_files(folder) if path.name in listed}
    lowered = {name: partial(_write_bytes, content) for name, content in contents.items()}
    return Compiled(model, plan, lambda: report, lowered)


def _with_sizes(report: Report, beside: Path) -> Report:
    """Return the report with the sizes of the files of the model that lie beside it."""
    return replace(report, artifacts={path.name: path.stat().st_size for path in _lowered_files(beside.parent)})


def _lowered_files(folder: Path) -> list[Path]:
    """Return the files of a folder that hold the model or its packed weights."""
    return sorted(path for path in folder.iterdir() if path.stem in ("model", "weights"))


def _write(path: Path, text: str) -> None:
    """Write a text file."""
    path.write_text(text, encoding="utf-8")


def _write_bytes(content: bytes, path: Path) -> None:
    """Write a binary file."""
    path.write_bytes(content)
