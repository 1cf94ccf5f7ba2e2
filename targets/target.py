"""A target: the device that a model is compiled for, as a TOML file describes it."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from smartc.core.errors import Argument, UserError
from smartc.targets.agreement import check_agreement, check_sources
from smartc.targets.keys import Sources, Whole
from smartc.targets.parse import plain, read_table
from smartc.targets.sections import (
    Align,
    Array,
    Calibration,
    Depthwise,
    Identity,
    Memory,
    Ops,
    Output,
    Overhead,
    Precision,
    Sparsity,
    Vector,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_SHIPPED = Path(__file__).parent

_FACTOR = "ratios and rankings mean more than absolute times, which can be wrong by a factor of 2"
_ASSUMPTIONS = {
    "generic": "{name} is a generic device, not a product; its cycles are counted by a model of {array}: " + _FACTOR,
    "vendor-model": "{name} is not measured; its cycles follow its vendor's own formulas: " + _FACTOR,
    "calibrated": "{name} is not measured here; its cycles follow a model fitted to measurements ({source})",
    "measured": "{name} is measured on this machine",
}


@dataclass(frozen=True)
class Target:
    """A device: what the compiler must respect and what the latency model needs, section by section."""

    schema: Annotated[int, Whole(1, 1)]
    target: Identity
    array: Array
    align: Align
    precision: Precision
    output: Output
    depthwise: Depthwise
    memory: Memory
    sparsity: Sparsity
    overhead: Overhead
    vector: Vector
    ops: Ops
    calibration: Calibration
    source: Annotated[Mapping[str, str], Sources()] = field(hash=False)

    @classmethod
    def from_dict(cls, raw: Mapping[str, object], *, where: str = "target") -> Target:
        """Return the target that a description holds.

        Args:
            raw: Sections by name, as ``to_dict`` gives them or as TOML reads.
            where: What the errors name as the file.

        Raises:
            UserError: A key is unknown, missing or not usable, has no source, or contradicts another.
        """
        if not isinstance(raw, Mapping):
            raise UserError("holds no tables", where=where, fix="Give the sections of a target by name")
        target = read_table(cls, raw, where)
        check_sources(target, where)
        check_agreement(target, where)
        return target

    def to_dict(self) -> dict[str, Any]:
        """Return the description as plain dicts and lists, fit for JSON."""
        described: dict[str, Any] = plain(self)
        return described

    @property
    def name(self) -> str:
        """Return the name on the command line."""
        return self.target.name

    @property
    def provenance(self) -> str:
        """Return ``generic``, ``vendor-model``, ``calibrated`` or ``measured``."""
        return self.target.provenance

    @property
    def assumption(self) -> str:
        """Return the sentence, without its full stop, that says how far the figures can be believed."""
        rows, cols, megahertz = self.array.rows, self.array.cols, self.array.frequency_hz / 1e6
        skips = "skips" if self.sparsity.zero_tile_skip else "does not skip"
        array = f"one {rows}x{cols} array at {megahertz:g} MHz that {skips} zero tiles"
        assumption = _ASSUMPTIONS[self.provenance]
        return assumption.format(name=self.name, array=array, source=self.calibration.source)

    @property
    def is_this_machine(self) -> bool:
        """Say whether it is the processor that this runs on: its times are measured, not modelled."""
        return self.target.kind == "cpu" and self.provenance == "measured"

    def supports(self, op: str) -> bool:
        """Say whether the device runs the operator itself, by short name such as ``conv2d``."""
        return op in self.ops.supported


def load_target(name_or_path: str) -> Target:
    """Return the target of a shipped name, or of a path that ends in ``.toml``.

    Raises:
        UserError: No target has the name, the file cannot be read, or it does not describe a target.
    """
    if name_or_path.endswith(".toml"):
        return Target.from_dict(_read_toml(Path(name_or_path), name_or_path), where=name_or_path)
    if name_or_path not in target_names():
        raise UserError("unknown target", where=Argument("target", name_or_path), fix=_known(name_or_path))
    file = f"{name_or_path}.toml"
    return Target.from_dict(_read_toml(_SHIPPED / file, file), where=file)


def target_names() -> tuple[str, ...]:
    """Return the names of the shipped targets, smallest array first, this machine's processor last."""
    names = (file.stem for file in _SHIPPED.glob("*.toml"))
    return tuple(sorted(names, key=lambda name: (name == "cpu", len(name), name)))


def without_skipping(target: Target) -> Target:
    """Return the same device when it computes zero tiles like any other."""
    return replace(target, sparsity=replace(target.sparsity, zero_tile_skip=False))


def _known(name: str) -> str:
    """Return the names there are, the nearest first."""
    names = target_names()
    close = difflib.get_close_matches(name.lower(), names, 1, cutoff=0.4)
    guess = f"Did you mean {close[0]}? " if close else ""
    return f"{guess}The targets are {', '.join(names)}; a file of your own ends in .toml"


def _read_toml(path: Path, where: str) -> dict[str, object]:
    """Return the tables of a TOML file."""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        fact, fix = "no such file", "Give a TOML file that describes a target"
    except IsADirectoryError:
        fact, fix = "is a folder", "Give a TOML file that describes a target"
    except OSError as fault:
        fact, fix = f"cannot be read ({fault.strerror})", "Make it readable"
    except UnicodeDecodeError as fault:
        fact, fix = f"byte {fault.start} is not UTF-8", "Save it as UTF-8 text"
    except (ValueError, RecursionError) as fault:
        fact, fix = f"is not TOML ({fault})", "Mend the file at that place"
    raise UserError(fact, where=where, fix=fix)
