"""What a report is made of: the figures of a layer and of the whole network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Side = Literal["dense", "compiled"]
# Metrics that are shares, of which more is better; they read best as per cent.
_SHARES = ("accuracy", "top1", "top-1", "top5", "top-5", "miou", "iou", "f1", "precision", "recall")
SIDES: tuple[Side, Side] = ("dense", "compiled")


@dataclass(frozen=True)
class Latency:
    """Hold the time of one inference of the whole network, in ``unit``: of one sample, or of a fixed batch.

    ``without_skipping`` is the compiled network on the same target if it computed its zero tiles too.
    What is ``estimated`` follows from a table of kernels that were measured one by one.  Of a network that
    was ``measured``, ``file`` is what ran and ``spread`` holds, before and after, two standard errors
    of the median.  ``samples`` are how many it takes at once.
    """

    kind: Literal["simulated", "estimated", "measured"]
    unit: Literal["ms"]
    dense: float
    compiled: float
    without_skipping: float | None = None
    file: str | None = None
    spread: tuple[float, float] | None = None
    samples: int = 1

    @property
    def speed_up(self) -> float:
        """Return the dense time over the compiled one."""
        return _ratio(self.dense, self.compiled)


@dataclass(frozen=True)
class BudgetResult:
    """Hold the budget that was asked for and the one that was reached."""

    kind: str
    asked: str
    reached: str


@dataclass(frozen=True)
class Change:
    """Hold one count of the whole network before and after."""

    dense: int
    compiled: int

    @property
    def saved(self) -> float:
        """Return the share that is gone, 0 to 1."""
        return 1 - self.compiled / self.dense if self.dense else 0.0


@dataclass(frozen=True)
class Summary:
    """Hold the counts of the whole network; ``target_macs_peak`` is per cycle."""

    parameters: Change
    macs: Change
    weight_bytes: Change
    prunable_channels: int
    removed_channels: int
    target_macs_peak: int


@dataclass(frozen=True)
class Causes:
    """Hold the cycles that each part of the device would need alone; they overlap, so they do not add up."""

    compute: float
    output: float
    weights: float
    activations: float
    overhead: float


@dataclass(frozen=True)
class Figures:
    """Hold the cost of one layer in one of the two networks.

    ``shape`` is the output's, ``macs`` are those that the device does, ``tiles`` are (live, total),
    ``utilisation`` is useful multiply-accumulates of the peak, 0 to 1; ``weight_bytes`` include the index of
    the tiles.  Of a time that was measured, ``spread_ms`` is two standard errors of the median, and cycles are
    not known.
    """

    shape: tuple[int, ...]
    weight_shape: tuple[int, ...] | None
    macs: int
    weight_bytes: int
    cycles: float
    ms: float
    bound: str
    utilisation: float
    tiles: tuple[int, int] | None
    causes: Causes
    spread_ms: float | None = None


@dataclass(frozen=True)
class Layer:
    """Hold one layer before and after, with the decision on it and its reason."""

    name: str
    op: str
    decision: Literal["channel", "block", "n:m", "dense", "frozen"]
    reason: str
    dense: Figures
    compiled: Figures

    @property
    def speed_up(self) -> float:
        """Return the dense time over the compiled one; 1 if the layer is free, infinite if it became so."""
        return _ratio(self.dense.ms, self.compiled.ms)


@dataclass(frozen=True)
class Verification:
    """Hold the largest error of one stage against the masked original.

    ``tolerance`` bounds the relative error.
    """

    stage: str
    max_abs_error: float
    max_rel_error: float
    tolerance: float
    inputs: str

    @property
    def passed(self) -> bool:
        """Return whether the error is within the tolerance; an error that is not a number is not."""
        return self.max_rel_error <= self.tolerance


@dataclass(frozen=True)
class Agreement:
    """Hold the agreement of the compiled outputs with the original's; ``top1`` and ``cosine`` are 0 to 1."""

    inputs: int
    source: str
    top1: float | None
    cosine: float
    max_abs: float


@dataclass(frozen=True)
class NormError:
    """Hold what a norm lost: how many channels it keeps, and the error that this makes in what it normalises.

    ``error`` is that of the kept channels against the masked original, as a root mean square relative to theirs.
    """

    name: str
    channels: int
    kept: int
    error: float


@dataclass(frozen=True)
class Approximation:
    """Hold the error of norms that lost channels: the result is not the masked original but near it.

    ``error`` is that of the outputs, by the same measure as that of each norm.
    """

    inputs: int
    source: str
    error: float
    norms: tuple[NormError, ...]


@dataclass(frozen=True)
class Evaluation:
    """Hold the user's metric before and after."""

    source: str
    metric: str
    inputs: int
    dense: float
    compiled: float

    @property
    def is_share(self) -> bool:
        """Return whether the metric is one of those that are shares, and its values can be."""
        named = self.metric.lower() in _SHARES
        return named and all(0 <= value <= 1 for value in (self.dense, self.compiled))


@dataclass(frozen=True)
class LearningMoment:
    """Hold where learning stood after ``step`` steps.

    ``temperature`` is that of the soft masks, ``fractional`` the share of the masks that were neither
    kept nor removed, and ``density`` the share that each layer kept, in the order of ``Learning.layers``.
    """

    step: int
    loss: float | None
    temperature: float | None
    fractional: float
    density: tuple[float, ...]


@dataclass(frozen=True)
class Learning:
    """Hold how the masks and the weights were learned; ``samples`` is None where nobody counted them.

    The masks were made hard after ``search_steps`` of the ``steps``; ``fractional`` is the share of them
    that was neither kept nor removed just before.
    """

    learner: str
    objective: str
    source: str
    samples: int | None
    steps: int
    search_steps: int
    batch: int
    seed: int
    precision: str
    fractional: float
    layers: tuple[str, ...]
    curve: tuple[LearningMoment, ...]

    @property
    def losses(self) -> tuple[float, ...]:
        """Return the losses that are known, in the order of the steps."""
        known = (moment.loss for moment in self.curve)
        return tuple(loss for loss in known if loss is not None and math.isfinite(loss))


@dataclass(frozen=True)
class ReportRemark:
    """Hold something that the reader should know about a place; a warning is shown above everything else."""

    where: str
    text: str
    level: Literal["note", "warning"] = "note"


def _ratio(before: float, after: float) -> float:
    """Return before / after; 1 where both are nothing, infinite where only the second is."""
    if after:
        return before / after
    return math.inf if before else 1.0
