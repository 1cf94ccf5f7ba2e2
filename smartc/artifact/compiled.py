"""The result of a compilation: a callable model with its plan and report, to be saved and loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import fx, nn

from smartc.core.regular_file import read_regular
from smartc.core.write_file import write_file
from smartc.decision.plan import Plan
from smartc.ir.traced_model import TracedModel
from smartc.proof.comparison import Comparison
from smartc.reporting.notebook import render_in_notebook, render_note
from smartc.results.report import Report


@dataclass(frozen=True, eq=False)
class Compiled:
    """A compiled model: to be called, looked into and saved.

    ``smartc.compile``, ``Preparation.finish`` and ``smartc.load`` return one.  A notebook shows its report.

    Attributes:
        model: The smaller model, as a graph.
        plan: What was kept of every tensor, by the names of your ``state_dict``.
        proof: The report, or what checks the model against the masked original and returns it; run once,
            before the module, the report or a file is handed out.
        lowered: What writes each file of the model, by the file's name; None if compilation stopped before
            lowering.
        lower: Lowers the model where that was left out, and returns the result.
        comparison: The original, to compare with it again if the module is trained; None where it is not known.
    """

    model: TracedModel
    plan: Plan
    proof: Report | Callable[[], Report]
    lowered: Mapping[str, Callable[[Path], None]] | None
    lower: Callable[[], Compiled] | None = None
    comparison: Comparison | None = None

    def __repr__(self) -> str:
        """Return in one line the model, the target, and what was reached; the proof is not run for it."""
        if self.proved:
            return f"Compiled({self.report.headline}, proved)"
        return f"Compiled({self.plan.headline}, not proved yet)"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the report's head and picture, once there is a report."""
        if self.proved:
            return render_in_notebook(self.report)
        return render_note(f"{self.plan.headline}. Not proved yet: that is done when the report is first asked for.")

    @property
    def proved(self) -> bool:
        """Return whether the proof has run."""
        return isinstance(self.proof, Report) or "report" in vars(self)

    @cached_property
    def report(self) -> Report:
        """Return the report, with what each layer cost before and after, and the proof of the result.

        Raises:
            InternalError: The model computes something else than the masked original.
        """
        return self.proof if isinstance(self.proof, Report) else self.proof()

    @cached_property
    def module(self) -> fx.GraphModule:
        """Return an ``nn.Module`` with the original's inputs and output structure, proved before it is returned.

        It is in evaluation, and its tensors are its own.  ``train()`` and ``eval()`` switch its batch norms and its
        dropout.  Where it is trained, ``save`` writes what it has become, which is proved again.

        Raises:
            InternalError: The model computes something else than the masked original.
        """
        from smartc.artifact.lower_trained import trainable

        _ = self.report
        return trainable(self.model)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the model's outputs.

        Args:
            *args: Inputs, as the original takes them.
            **kwargs: The same, by name.

        Raises:
            InternalError: The model computes something else than the masked original.
        """
        return self.module(*args, **kwargs)

    def apply(self, module: nn.Module, *, own_weights: bool = False, output: str | Path | None = None) -> nn.Module:
        """Return a module of your own class with the smaller layers and the weights of this model.

        Its ``state_dict`` has the names of the original's; sizes that its layers keep as attributes, such as
        ``out_channels`` and ``num_heads``, follow.  It is run and computes what this model does, or is refused.

        Args:
            module: Of the class that was compiled, as it was before; it is left as it is.
            own_weights: Whether its own weights are taken, without what the plan removes; else this model's.
            output: A file to write the weights to, which ``smartc.resized`` reads.

        Returns:
            The smaller module, in the mode of the given one.

        Raises:
            UserError: The module is not what was compiled, or its class cannot express the result: the first place
                where it cannot is named.
        """
        from smartc.resizing.resize import resize
        from smartc.resizing.weights_file import to_weights_file

        smaller = resize(module, self._now(), self.plan, own_weights)
        if output is not None:
            write_file(output, to_weights_file(smaller.module, smaller.sizes, self.plan.sha256))
        return smaller.module

    def _now(self) -> TracedModel:
        """Return the model with the tensors that its module has now."""
        from smartc.artifact.lower_trained import trained

        changed = trained(self.model, self.module, self.plan) if "module" in vars(self) else None
        return self.model if changed is None else changed

    def save(self, folder: str | Path) -> None:
        """Write a folder with the model, the plan and the report: all files or, on any failure, none.

        Where the tensors of ``module`` were changed, all files are made of these and proved against the module.

        Args:
            folder: Where to; it may be new, empty, or one that smartc wrote, which is replaced.

        Raises:
            UserError: The folder is not ours to replace, the disk is full or read-only, or ``module`` has tensors
                of other shapes or types than were compiled, or weights again that the plan removed.
        """
        from smartc.artifact.write import check_writable

        folder = Path(folder)
        check_writable(folder)
        self._as_it_is()._write(folder)

    def _as_it_is(self) -> Compiled:
        """Return this model lowered, with the tensors that its module has now."""
        from smartc.artifact.lower_trained import lower_trained, trained

        lowered = self if self.lower is None else self.lower()
        model = trained(self.model, self.module, self.plan) if "module" in vars(self) else None
        if model is None:
            return lowered
        assert lowered.lowered is not None
        found = lower_trained(model, lowered.plan, lowered.report, lowered.lowered, self.comparison)
        return replace(lowered, model=found.model, proof=found.report, lowered=found.lowered)

    def _write(self, folder: Path) -> None:
        """Write the folder of a model that was lowered."""
        from smartc.artifact.write import write_artifact
        from smartc.reporting.html_page import render_html

        assert self.lowered is not None
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
            "outputs": list(self.model.output_names),
        }
        write_artifact(folder, files, about)


def load(folder: str | Path) -> Compiled:
    """Return the compiled model that a folder holds.

    Args:
        folder: What ``Compiled.save`` or ``smartc compile`` wrote.

    Returns:
        The compiled model with its plan and its report; to save it again writes the same files.

    Raises:
        UserError: smartc did not write the folder, or a file in it is missing or changed.

    Example:
        >>> import smartc, torch
        >>> layers = (torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 8, 3))
        >>> inputs = torch.randn(1, 3, 8, 8)
        >>> compiled = smartc.compile(torch.nn.Sequential(*layers), inputs, target="npu-8x8", backends=("pt2",))
        >>> compiled.save("build")
        >>> loaded = smartc.load("build")
        >>> torch.equal(loaded(inputs), compiled(inputs))
        True
    """
    from smartc.artifact.manifest import REQUIRED, check_files, read_manifest
    from smartc.artifact.runner import load_named

    folder = Path(folder)
    check_files(folder)
    check_files(folder, *REQUIRED)
    listed = read_manifest(folder)["files"]
    plan = Plan.load(folder / "plan.json")
    report = Report.load(folder / "report.json")
    model = replace(load_named(folder / "model.pt2"), name=report.model)
    contents = {path.name: read_regular(path) for path in _lowered_files(folder) if path.name in listed}
    lowered = {name: partial(_write_bytes, content) for name, content in contents.items()}
    return Compiled(model, plan, report, lowered)


def _with_sizes(report: Report, beside: Path) -> Report:
    """Return the report with the sizes of the files of the model that lie beside it."""
    return replace(report, artifacts={path.name: path.stat().st_size for path in _lowered_files(beside.parent)})


def _lowered_files(folder: Path) -> list[Path]:
    """Return the files of a folder that hold the model or its packed weights."""
    return sorted(path for path in folder.iterdir() if path.name.partition(".")[0] in ("model", "weights"))


def _write(path: Path, text: str) -> None:
    """Write a text file."""
    path.write_text(text, encoding="utf-8", errors="replace")


def _write_bytes(content: bytes, path: Path) -> None:
    """Write a binary file."""
    path.write_bytes(content)
