"""A target: the device that a model is compiled for, as a TOML file describes it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from smartc.core.errors import Argument, UserError
from smartc.targets.consistency import check_consistency
from smartc.targets.description import over_base, read_toml
from smartc.targets.keys import Sources, Whole
from smartc.targets.latency import LayerCosts, modelled_costs
from smartc.targets.parse import plain, read_table, shown
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
from smartc.targets.sources import check_sources
from smartc.targets.workload import Floats, Workload

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
        check_consistency(target, where)
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

    @property
    def needs_cost_table(self) -> bool:
        """Say whether nothing can be priced before a cost table is there."""
        return self.is_this_machine

    @property
    def time_kind(self) -> Literal["simulated", "estimated"]:
        """Return what its times are: those of a model are simulated, sums of measured kernels are estimated."""
        return "simulated"

    @property
    def guides_by_time(self) -> bool:
        """Say whether fewer MACs are sought where they save the most time, because times are known well."""
        return False

    def supports(self, op: str) -> bool:
        """Say whether the device runs the operator itself, by short name such as ``conv2d``."""
        return self.ops.includes(op)

    def factors_of(self, layers: Sequence[str]) -> Floats:
        """Return the factor of each of some layers, by name: what it takes over what ``price`` knows; here ones."""
        return np.ones(len(layers))

    def price(self, work: Workload) -> LayerCosts:
        """Return what each layer costs: arrays of the workload's shape.

        The total never rises when channels, groups, pixels or live tiles fall.

        Raises:
            ValueError: It is a processor without its cost table.
        """
        if self.needs_cost_table:
            raise ValueError(f"{self.name} has no cost table")
        return modelled_costs(self, work)


def load_target(name_or_path: str) -> Target:
    """Return the target of a shipped name, or of a path that ends in ``.toml``.

    Raises:
        UserError: No target has the name, the file cannot be read, or it does not describe a target.
    """
    if name_or_path.endswith(".toml"):
        return _load(Path(name_or_path), name_or_path)
    if name_or_path not in target_names():
        raise UserError("unknown target", where=Argument("target", name_or_path), fix=_known(name_or_path))
    file = f"{name_or_path}.toml"
    return _load(_SHIPPED / file, file)


def target_names() -> tuple[str, ...]:
    """Return the names of the shipped targets, smallest array first, this machine's processor last."""
    names = (file.stem for file in _SHIPPED.glob("*.toml"))
    return tuple(sorted(names, key=lambda name: (name == "cpu", len(name), name)))


def without_skipping(target: Target) -> Target:
    """Return the same device when it computes zero tiles like any other."""
    return replace(target, sparsity=replace(target.sparsity, zero_tile_skip=False))


def _load(path: Path, where: str, above: tuple[str, ...] = ()) -> Target:
    """Return the target of a file; ``above`` are the files that start from it."""
    raw = read_toml(path, where)
    if "base" in raw:
        base = _base(raw.pop("base"), path, where, (*above, os.path.realpath(path)))
        raw = over_base(base.to_dict(), raw, where)
    return Target.from_dict(raw, where=where)


def _base(name: object, path: Path, where: str, above: tuple[str, ...]) -> Target:
    """Return the target that a file starts from: a shipped one by name, or another file by its path from there."""
    place = f"{where}, base"
    if not isinstance(name, str):
        fix = "Give the name of a target, or the path of a TOML file from this one"
        raise UserError(f"cannot be {shown(name)}", where=place, fix=fix)
    if not name.endswith(".toml") and name not in target_names():
        raise UserError(f'unknown target "{name}"', where=place, fix=_known(name))
    file = path.parent / name if name.endswith(".toml") else _SHIPPED / f"{name}.toml"
    if os.path.realpath(file) in above:
        raise UserError(f'"{name}" starts from this file itself', where=place, fix="Give another base")
    try:
        return _load(file, str(file) if name.endswith(".toml") else file.name, above)
    except UserError as error:
        fact = f'"{name}" is not a target ({error.where}: {error.fact})'
        raise UserError(fact, where=place, fix="Give another base, or mend that one") from None


def _known(name: str) -> str:
    """Return the names there are, the nearest first."""
    names = target_names()
    close = difflib.get_close_matches(name.lower(), names, 1, cutoff=0.4)
    guess = f"Did you mean {close[0]}? " if close else ""
    return f"{guess}The targets are {', '.join(names)}; a file of your own ends in .toml"
