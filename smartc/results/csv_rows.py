"""The report as comma-separated values: one row per layer, all figures before and after."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import fields

from smartc.results.figures import SIDES, Causes, Figures, Latency, Layer

_CAUSES = tuple(field.name for field in fields(Causes))
_FIGURES = (
    *("shape", "weight_shape", "macs", "weight_bytes", "ms", "share", "cycles"),
    *(f"{cause}_cycles" for cause in _CAUSES),
    *("bound", "utilisation", "live_tiles", "total_tiles"),
)
# What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
CSV_HEADER = (
    *("name", "op", "decision", "reason", "latency_kind", "speed_up"),
    *(f"{side}_{figure}" for side in SIDES for figure in _FIGURES),
)


def layers_to_csv(latency: Latency, layers: Iterable[Layer]) -> str:
    """Return a header and a row per layer; numbers have all their digits, so that columns add up."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(CSV_HEADER)
    rows.writerows(tuple(_row(latency, layer)) for layer in layers)
    return text.getvalue()


def _row(latency: Latency, layer: Layer) -> Iterator[object]:
    """Yield the values of one layer in the order of the header."""
    yield from map(_text, (layer.name, layer.op, layer.decision, layer.reason, latency.kind))
    yield layer.speed_up
    yield from _figures(layer.dense, latency.dense)
    yield from _figures(layer.compiled, latency.compiled)


def _text(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula or for two rows."""
    line = text.replace("\r", " ")
    return f"'{line}" if text.startswith(_FORMULA) else line


def _figures(figures: Figures, total_ms: float) -> Iterator[object]:
    """Yield the figures of one side; what a layer does not have stays empty."""
    yield "x".join(map(str, figures.shape))
    yield "x".join(map(str, figures.weight_shape or ()))
    yield from (figures.macs, figures.weight_bytes, figures.ms)
    yield figures.ms / total_ms if total_ms else 0.0
    yield figures.cycles
    yield from (getattr(figures.causes, cause) for cause in _CAUSES)
    yield from (figures.bound, figures.utilisation)
    yield from figures.tiles or ("", "")
