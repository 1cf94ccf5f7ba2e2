"""A dump: the graph as text after every stage of a compile, and the passes that ran with their remarks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from smartc.core.errors import UserError
from smartc.core.write_file import write_file
from smartc.ir.listing import listing
from smartc.ir.traced_model import TracedModel
from smartc.passes.shared.base import Pass, PassResult, listening


@dataclass(frozen=True, eq=False)
class Dump:
    """The folder that a compile's stages are written to, a numbered file each; nothing is written without one.

    Attributes:
        folder: Where to write; made when the first stage is over.
        passes: Lines on the passes that ran since the last stage was written.
        written: Names of the files, in order.
    """

    folder: Path | None
    passes: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)

    @classmethod
    def to(cls, folder: str | Path | Dump | None) -> Dump:
        """Return a dump to a folder that is not there or empty; a dump as it is.

        Raises:
            UserError: There is something in its place.
        """
        if folder is None:
            return NO_DUMP
        if isinstance(folder, Dump):
            return folder
        place = Path(folder)
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            fact = "it holds files already" if place.is_dir() else "it is not a folder"
            raise UserError(fact, where=str(folder), fix="Name a folder that is not there yet")
        return cls(place)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note the passes that run in the block."""
        if self.folder is None:
            yield
            return
        with listening(self._note):
            yield

    def stage(self, name: str, model: TracedModel | None = None, *facts: str) -> None:
        """Write what a stage came to.

        Args:
            name: Of the stage.
            model: The model after it, where it has one.
            facts: Lines on what else it found.

        Raises:
            UserError: The file cannot be written.
        """
        if self.folder is None:
            return
        parts = [f"# {name}\n"]
        if self.passes:
            parts.append("\n".join(("passes", *self.passes)) + "\n")
        if facts:
            parts.append("\n".join(facts) + "\n")
        if model is not None:
            parts.append(listing(model))
        self.passes.clear()
        self.written.append(f"{len(self.written) + 1:02}-{name}.txt")
        self._write(self.folder, "\n".join(parts))

    def _write(self, folder: Path, text: str) -> None:
        """Write the latest file."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            fact = f"it cannot be made ({error.strerror})"
            raise UserError(fact, where=str(folder), fix="Choose another folder") from error
        write_file(folder / self.written[-1], text.encode())

    def _note(self, step: Pass, result: PassResult) -> None:
        """Note a pass with its remarks."""
        self.passes.append(f"  {step.name}: {'changed the graph' if result.modified else 'changed nothing'}")
        marks = (("*" if remark.changed else "-", remark) for remark in result.remarks)
        self.passes.extend(f"    {mark} {remark.where}: {remark.text}" for mark, remark in marks)


NO_DUMP = Dump(None)
