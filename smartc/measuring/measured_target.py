"""The target of this machine: its description with its cost table, measured first where there is none."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from smartc.measuring.calibrate import Progress, calibrate
from smartc.measuring.cost_table_file import read_table, write_table
from smartc.measuring.processor import has_tvm
from smartc.targets.measured import MeasuredTarget
from smartc.targets.target import Target

log = logging.getLogger(__name__)
FIRST = "this machine has no cost table yet: measuring it takes half a minute or more, once"
ONNX, WITH_TVM = ("onnx",), ("onnx", "tvm")


def default_backends(target: Target) -> tuple[str, ...]:
    """Return what to lower to where nobody says: for this machine TVM too, where it is installed."""
    return WITH_TVM if target.is_this_machine and has_tvm() else ONNX


def with_costs(target: Target, backends: Sequence[str] | None, watch: Progress | None = None) -> Target:
    """Return the target with the cost table of this machine, if it is this machine; another one as it is.

    Args:
        target: As its description has it.
        backends: What will be lowered to; only what TVM compiles skips zero tiles.  None is the default.
        watch: Told how far a measurement is, where one is needed.

    Raises:
        UserError: There is a table and it is no use, or there is none and it cannot be kept.
    """
    if not target.needs_cost_table:
        return target
    costs = read_table()
    if costs is None:
        if watch is None:
            log.warning(FIRST)
        costs = calibrate(watch)
        write_table(costs)
    chosen = default_backends(target) if backends is None else backends
    return MeasuredTarget.of(target, costs, blocks="tvm" in chosen)
